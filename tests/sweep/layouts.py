"""Small models in every layout that a loader reads, safetensors and pickles, and a kept run of score distillation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import comfy.utils
import folder_paths
import tiny_deepfloyd
import torch
from comfy.taesd.taesd import TAESD
from diffusers_folders import text_encoder, write_color_folder, write_folder, write_tokenizer
from model_files import one_level_unet
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

from .damages import PICKLES
from .models import Models

FULL_WIDTH = 768
PICKLED_NAMES = {".bin": {"model": "pytorch_model"}}
"""By ending, stems of safetensors that have another one as a pickle."""


class Layout(NamedTuple):
    """A node, what it is given, and the folder whose files are damaged; `work` counts evaluations of models so far."""

    node: str
    given: dict[str, Any]
    root: Path
    work: Callable[[], int] = lambda: 0

    def files(self, layout: str) -> list[Path]:
        """Those to damage: of a layout with pickles these alone, for the others were damaged without them."""
        pickled = layout in PICKLED
        return sorted(path for path in self.root.rglob("*") if path.is_file() and (not pickled or path.suffix in PICKLES))


def write(layout: str, models: Models) -> Layout:
    """A model in that layout of damaged.LAYOUTS or of PICKLED."""
    return PICKLED[layout](models) if layout in PICKLED else _plain(layout, models)


def _plain(layout: str, models: Models) -> Layout:
    embedded, folder = models.module("itsound_core.embedded"), models.folder
    if layout == "diffusers":
        write_folder(folder / "diffusers" / "own", seed=1)
        return _pair(folder, "diffusers/own", folder / "diffusers" / "own")
    if layout == "checkpoint":
        comfy.utils.save_torch_file(one_level_unet(), str(folder / "diffusion_models" / "own.safetensors"))
        return _pair(folder, "diffusion_models/own.safetensors", folder / "diffusion_models", FULL_WIDTH)
    if layout == "vocoder":
        own = shutil.copytree(embedded.VOCODER_FOLDER, folder / "vocoders" / "own")
        return Layout("LoadVocoder", {"vocoder_name": "vocoders/own"}, own)
    if layout == "color":
        own = folder / "diffusers" / "own"
        write_color_folder(own)
        text_encoder().save_pretrained(own / "text_encoder")
        write_tokenizer(own / "tokenizer")
        return Layout("LoadColorModel", {"color_model_name": "diffusers/own"}, own)
    if layout == "deepfloyd":
        tiny_deepfloyd.write_stage_1(folder / "diffusers" / "stage-1")
        tiny_deepfloyd.write_stage_2(folder / "diffusers" / "stage-2")
        names = {"stage_1_name": "diffusers/stage-1", "stage_2_name": "diffusers/stage-2"}
        return Layout("LoadDeepFloydIF", names, folder / "diffusers")
    of = {"picture_scorer": embedded.CLIP_FOLDER, "sound_scorer": embedded.CLAP_FOLDER}
    own = shutil.copytree(of[layout], folder / "scorers" / "own")
    names = {"picture_scorer_name": "embedded", "sound_scorer_name": "embedded"} | {f"{layout}_name": "scorers/own"}
    return Layout("LoadScorers", names, own)


def _pair(folder: Path, own: str, root: Path, width: int = 0, **names: str) -> Layout:
    """That model and another, whose text encoder is `width` wide if it is not as small as the rest."""
    wide = {"cross_attention_dim": width, "text": {"hidden_size": width, "num_attention_heads": 12}} if width else {}
    write_folder(folder / "diffusers" / "other", seed=2, **wide)
    return Layout("LoadDualUNets", {"image_model_name": own, "audio_model_name": "diffusers/other"} | names, root)


def _pickled(layout: str, ending: str, content: Callable[[dict], dict] = lambda weights: weights) -> Callable[[Models], Layout]:
    """That layout with every file of weights as a pickle of that ending."""

    def written(models: Models) -> Layout:
        plain = _plain(layout, models)
        for file in plain.root.rglob("*.safetensors"):
            stem = PICKLED_NAMES.get(ending, {}).get(file.stem, file.stem)
            torch.save(content({name: weight.clone() for name, weight in load_file(file).items()}), file.with_name(stem + ending))
            file.unlink()
        return plain

    return written


def _single_file(key: str, name: str, prefix: str = "") -> Callable[[Models], Layout]:
    """A UNet of full width in a file of its own."""

    def written(models: Models) -> Layout:
        root = models.folder / key
        torch.save({prefix + weight: tensor for weight, tensor in one_level_unet().items()}, root / name)
        return _pair(models.folder, f"{key}/{name}", root, FULL_WIDTH)

    return written


def _vae_file(models: Models) -> Layout:
    """A VAE in a file of its own, of the only small kind that ComfyUI knows, beside two folders."""
    write_folder(models.folder / "diffusers" / "own", seed=1)
    torch.save(TAESD().state_dict(), models.folder / "vae" / "own.pt")
    return _pair(models.folder, "diffusers/own", models.folder / "vae", vae_name="own.pt")


def _text_file(models: Models) -> Layout:
    """A text encoder in a file of its own, read by two models of its width: whole, as large as Stable Diffusion 1.5's."""
    config = CLIPTextConfig(hidden_size=FULL_WIDTH, intermediate_size=4 * FULL_WIDTH, num_attention_heads=12)
    torch.save(CLIPTextModel(config).half().state_dict(), models.folder / "text_encoders" / "own.bin")
    write_folder(models.folder / "diffusers" / "own", seed=1, cross_attention_dim=FULL_WIDTH)
    return _pair(models.folder, "diffusers/own", models.folder / "text_encoders", FULL_WIDTH, image_clip_name="own.bin")


def _adapter(models: Models) -> Layout:
    """A folder as auffusion/auffusion has it: text encoder and tokenizer in one, an adapter beside them."""
    own = models.folder / "diffusers" / "own"
    write_folder(own, seed=1)
    shutil.move(own / "text_encoder", own / "text_encoder_0")
    shutil.copytree(own / "tokenizer", own / "text_encoder_0", dirs_exist_ok=True)
    shutil.rmtree(own / "tokenizer")
    (own / "condition_adapter_0").mkdir()
    (own / "condition_adapter_0" / "config.json").write_text(json.dumps({"condition_dim": 32, "cross_attention_dim": 32}))
    names = ("proj.weight", "proj.bias", "norm.weight", "norm.bias")
    weights = {name: torch.randn((32, 32) if name == "proj.weight" else 32) for name in names}
    torch.save(weights, own / "condition_adapter_0" / "condition_adapter.pt")
    return _pair(models.folder, "diffusers/own", own)


def _kept_run(models: Models) -> Layout:
    """A run of two iterations that is kept: what goes on from it has nothing left to do but to show its picture."""
    given = {"audio_model": models.audio_model, "vae": models.vae, "image_model": models.image_model}
    given |= {name: models.text(seed) for seed, name in enumerate(("audio_positive", "audio_negative", "image_positive", "image_negative"))}
    given |= {"iterations": 2, "warm_start": 1, "lambda_sds": 0.4, "image_cfg": 8.0, "audio_cfg": 4.0, "crops": 1, "learning_rate": 0.01}
    given |= {"seed": 5, "checkpoint_name": "own", "seconds": 0.64, "hidden": 16}
    with torch.inference_mode():
        models.module("nodes.sds").SDSBaseline.PREPARE_CLASS_CLONE(None).execute(**given)
    folder = Path(folder_paths.get_output_directory(), models.module("bridge.checkpoint").FOLDER)
    return Layout("SDSBaseline", given, folder, lambda: models.work)


PICKLED: dict[str, Callable[[Models], Layout]] = {
    "vocoder-pt": _pickled("vocoder", ".pt", lambda weights: {"generator": weights}),
    "diffusers-bin": _pickled("diffusers", ".bin"),
    "color-bin": _pickled("color", ".bin"),
    "deepfloyd-bin": _pickled("deepfloyd", ".bin"),
    "picture_scorer-bin": _pickled("picture_scorer", ".bin"),
    "sound_scorer-bin": _pickled("sound_scorer", ".bin"),
    "checkpoint-ckpt": _single_file("checkpoints", "own.ckpt", "model.diffusion_model."),
    "unet-pt": _single_file("diffusion_models", "own.pt"),
    "vae-pt": _vae_file,
    "text-bin": _text_file,
    "adapter-pt": _adapter,
    "sds-pt": _kept_run,
}
"""By the names of damaged.WITH_PICKLES."""
