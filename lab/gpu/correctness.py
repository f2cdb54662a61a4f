"""What must hold on a card whatever its speed: the joint guider against the plain loop, score distillation, every node once."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from itsound_core.embedded import AUDIO_FOLDER, IMAGE_FOLDER
from itsound_core.latents import LATENT_CHANNELS, PIXELS_PER_LATENT
from itsound_core.spectrogram import AUFFUSION
from lab.benchmarks.joint_sampling import DEVICE, Sampler, apart, embeddings, guider, plain_loop

from .comfyui import Pack
from .records import FAILED, HELD, SKIPPED, Record
from .scale import Scale

EXACT = 1e-3
"""Relative difference in float32 without tf32 after a whole run, guidance 10 and all; 1e-6 to 1e-4 seen."""
HALF = 2.0
"""In half precision the guider may be so many times as far from float32 as the plain loop, which keeps its latents in half precision."""
UNCHANGED = 0.02
"""Relative difference that two runs of the same thing in half precision may have, with kernels that add in any order."""
PROMPTS = {"image": "a painting of a castle, grayscale", "audio": "church bell ringing"}


def tf32() -> str:
    return f"matmul {torch.backends.cuda.matmul.allow_tf32}, cudnn {torch.backends.cudnn.allow_tf32}"


@contextmanager
def full_float32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


# The guider --------------------------------------------------------------------------------------------------------------------------


def half_agreement(pack: Pack, scale: Scale) -> Iterator[Record]:
    yield from agreement(pack, scale, ("float16",))


def agreement(pack: Pack, scale: Scale, names: tuple[str, ...] = ("float32", "float16", "bfloat16")) -> Iterator[Record]:
    """The embedded models under the joint guider and under the plain loop on diffusers, from the same noise."""
    columns = AUFFUSION.frames(scale.seconds) // PIXELS_PER_LATENT
    noise = torch.randn(2, LATENT_CHANNELS, AUFFUSION.n_mels // PIXELS_PER_LATENT, columns, generator=torch.Generator().manual_seed(1))
    noise = noise.to(DEVICE)
    with full_float32():
        reference = _plain(torch.float32, scale.steps)(noise).float().cpu()
        for name in names if DEVICE.type == "cuda" else ["float32"]:  # a CPU needs a minute in float16
            dtype, began = getattr(torch, name), time.perf_counter()
            load_unet = pack.module("bridge.unet_folder").load_unet
            models = [load_unet(folder, {"dtype": dtype}) for folder in (IMAGE_FOLDER, AUDIO_FOLDER)]
            ours = guider(models, _embeddings(dtype), scale.steps, pack.module("bridge.guider"))(noise).float().cpu()
            plain = reference if dtype == torch.float32 else _plain(dtype, scale.steps)(noise.to(dtype)).float().cpu()
            values: dict[str, Any] = {"guider from the plain loop": apart(ours, plain), "guider from float32": apart(ours, reference)}
            values |= {"plain loop from float32": apart(plain, reference), "tf32": tf32(), "seconds": time.perf_counter() - began}
            bound = EXACT if dtype == torch.float32 else HALF * values["plain loop from float32"]
            held = bool(ours.isfinite().all()) and values["guider from float32"] <= bound
            yield Record("guider against the plain loop", name, HELD if held else FAILED, values, "" if held else f"bound {bound:.2g}")


def _embeddings(dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    return embeddings(UNet2DConditionModel.load_config(IMAGE_FOLDER, subfolder="unet")["cross_attention_dim"], dtype)


def _plain(dtype: torch.dtype, steps: int) -> Sampler:
    unets = [
        UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=dtype).to(DEVICE).eval().requires_grad_(False)
        for folder in (IMAGE_FOLDER, AUDIO_FOLDER)
    ]
    return plain_loop([*unets], _embeddings(dtype), steps)


# Score distillation ------------------------------------------------------------------------------------------------------------------


def distillation(pack: Pack, scale: Scale) -> Iterator[Record]:
    """SDS through its node, on both canvases; model and VAE must give the same after it as before (nothing freed under them)."""
    runner = Runner(pack, scale)
    runner.load()
    sample, latents = (
        runner.values("MultimodalKSampler")[0]["samples"],
        torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(2)),
    )
    vae = runner.got["vae"]

    def decoded() -> Tensor:
        with torch.inference_mode():
            return vae.decode(latents).float().cpu()

    before = decoded()
    n = scale.distillation_steps
    for canvas, image in (("network", "color"), ("latents", "image")):
        began = time.perf_counter()
        given = {"canvas": canvas, "iterations": n, "warm_start": n // 8, "hidden": 256 if scale.unet == "full" else 8}
        sides = {f"image_{side}": runner.got[f"{image}_{side}"] for side in ("positive", "negative")}
        (picture,) = runner.values("SDSBaseline", **given, image_model=runner.got[f"{image}_model"], **sides)
        seconds = time.perf_counter() - began
        gc.collect()
        changes = {"VAE after it": apart(decoded(), before)}
        changes["sampler after it"] = apart(runner.values("MultimodalKSampler")[0]["samples"].float().cpu(), sample.float().cpu())
        held = bool(picture.isfinite().all()) and float(picture.std()) > 0 and all(change < UNCHANGED for change in changes.values())
        values = {"iterations": n, "iterations a second": n / seconds, **changes, "picture's spread": float(picture.std())}
        yield Record("score distillation", f"canvas {canvas}, image model {image}", HELD if held else FAILED, values)


# Every node --------------------------------------------------------------------------------------------------------------------------


class Runner:
    """Executes nodes one after the other; what they give is kept in `got` by the name of the socket that takes it."""

    def __init__(self, pack: Pack, scale: Scale):
        self.pack, self.scale, self.nodes = pack, scale, pack.nodes()
        self.got: dict[str, Any] = {}
        self.ran: set[str] = set()

    def values(self, node: str, **given: Any) -> tuple:
        """A node's outputs; inputs that are not given come from `got`, from the scale, or are the widget's defaults."""
        self.ran.add(node)
        small = {"seconds": self.scale.seconds, "steps": self.scale.steps, "iterations": self.scale.iterations, "seed": 1}
        arguments = {}
        for socket in self.nodes[node].GET_SCHEMA().inputs:  # pyright: ignore[reportAttributeAccessIssue]
            known = given | ({} if socket.id in given else {key: value for key, value in (self.got | small).items() if key == socket.id})
            if socket.id in known:
                arguments[socket.id] = known[socket.id]
            elif getattr(socket, "default", None) is not None:
                arguments[socket.id] = socket.default
            elif getattr(socket, "options", None):
                arguments[socket.id] = socket.options[0]
            elif not socket.optional:
                raise LookupError(f"nothing for {socket.id}: a node before it failed")
        with torch.inference_mode():
            output = self.nodes[node].PREPARE_CLASS_CLONE(None).execute(**arguments)  # pyright: ignore[reportAttributeAccessIssue]
        return tuple(output.args or ())

    def load(self) -> None:
        """The embedded models, their prompts, an empty canvas."""
        got = self.got
        names = ("image_model", "image_clip", "audio_model", "audio_clip", "vae")
        got |= zip(names, self.values("LoadDualUNets", image_model_name="embedded", audio_model_name="embedded"), strict=True)
        got |= zip(("color_model", "color_clip"), self.values("LoadColorModel", color_model_name="embedded"), strict=True)
        with torch.inference_mode():
            for side in ("image", "audio", "color"):
                clip = got[f"{side}_clip"]
                for sign, text in (("positive", PROMPTS.get(side, PROMPTS["image"])), ("negative", "")):
                    got[f"{side}_{sign}"] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        got |= {f"{side}_prompt": text for side, text in PROMPTS.items()}
        (got["latent_image"],) = self.values("EmptySpectrogramLatent", batch_size=2)


def every_node(pack: Pack, scale: Scale) -> Iterator[Record]:
    """Each node once, wired as in the templates, on whatever device ComfyUI gives it. Values must be finite."""
    runner = Runner(pack, scale)
    got = runner.got

    def run(node: str, keep: str = "", **given: Any) -> Record:
        began = time.perf_counter()
        try:
            outputs = runner.values(node, **given)
        except Exception as error:  # this node's record; what needs its outputs fails in turn  # noqa: BLE001
            if "PyAV is not installed" in repr(error):
                return Record("every node once", node, SKIPPED, {}, repr(error))
            return Record("every node once", node, FAILED, {"seconds": time.perf_counter() - began}, traceback.format_exc(limit=-5))
        got.update(zip(keep.split(), outputs, strict=False))
        bad = [output for output in map(_tensor, outputs) if output is not None and not output.isfinite().all()]
        values = {"seconds": time.perf_counter() - began}
        return Record("every node once", node, FAILED if bad else HELD, values, "NaN or infinite values" if bad else "")

    runner.load()
    for node in ("LoadDualUNets", "LoadColorModel", "EmptySpectrogramLatent"):
        yield Record("every node once", node, HELD)
    mono = 0.3 * torch.randn(1, 2, 44100 * 2, generator=torch.Generator().manual_seed(0)).cumsum(2).sin()
    got["recording"] = {"waveform": mono, "sample_rate": 44100}
    yield run("PaperPrompts")
    yield run("LoadVocoder", "vocoder", vocoder_name="embedded")
    yield run("MultimodalKSampler", "latents")
    if "latents" in got:
        with torch.inference_mode():
            got["spectrogram"] = got["image"] = got["images"] = got["canvas"] = got["vae"].decode(got["latents"]["samples"])
    yield run("MultimodalGuider", "guider")
    yield run("AddExpert", "guider", model=got["image_model"], positive=got["image_positive"], negative=got["image_negative"])
    yield run("RenormalizeSpectrogram")
    yield run("SpectrogramToAudio", "audio", vocoder=got.get("vocoder"))
    yield run("SpectrogramToAudio", "audio", vocoder=None)
    yield run("AudioToSpectrogram", audio=got["recording"], seconds=0.0)
    yield run("TrimCanvas")
    yield run("CycleConsistency")
    yield run("ViewCanvas", canvas=torch.cat([got["spectrogram"]] * 2, dim=1))
    yield run("ImprintBaseline", seconds=0.0)
    yield run("ImprintRecording", audio=got["recording"], seconds=0.0)
    yield run("ExamplesAsModel", "examples_model examples_text", examples=got.get("image"))
    if "examples_model" in got:
        text = got["examples_text"]
        yield run("MultimodalKSampler", image_model=got["examples_model"], image_positive=text, image_negative=text, image_cfg=1.0)
    yield run("ExamplesToAudio", recording=got["recording"])
    for side, vae in (("color", None), ("image", got["vae"])):
        painter = {"model": got[f"{side}_model"], "positive": got[f"{side}_positive"], "negative": got[f"{side}_negative"]}
        yield run("FactorizedColorize", **painter, vae=vae, start_step=1)
    yield run("LoadScorers", "scorer", picture_scorer_name="embedded", sound_scorer_name="embedded")
    yield run("ScoreImageAndSound", "scores")
    yield run("KeepBest")
    one = {"samples": got["latent_image"]["samples"][:1]}
    yield run("KeeperSearch", latent_image=one, candidates=4, keepers=1, budget=4 * scale.steps, vocoder=got.get("vocoder"))
    small = {"iterations": scale.distillation_steps // 4 + 1, "warm_start": 0, "hidden": 8, "image_model": got["color_model"]}
    yield run("SDSBaseline", **small, canvas="network", image_positive=got["color_positive"], image_negative=got["color_negative"])
    yield from _deepfloyd(runner, run)
    with TemporaryDirectory() as folder:
        _outputs_to(Path(folder))
        for node in ("PlayheadVideo", "SaveImageThatSounds", "PlayImage"):
            yield run(node)
    for node in sorted(set(runner.nodes) - runner.ran):
        yield Record("every node once", node, SKIPPED, {}, "needs files that are not carried")


def _deepfloyd(runner: Runner, run: Any) -> Iterator[Record]:
    """Both stages, small and random as the tests have them, where the tests are there."""
    import sys

    tests = Path(__file__).resolve().parents[2] / "tests"
    if not (tests / "tiny_deepfloyd.py").exists():
        return
    sys.path.append(str(tests))
    with TemporaryDirectory() as scratch:
        import folder_paths  # pyright: ignore[reportMissingImports]
        import tiny_deepfloyd  # pyright: ignore[reportMissingImports]

        for stage in (1, 2):
            getattr(tiny_deepfloyd, f"write_stage_{stage}")(Path(scratch) / f"stage-{stage}")
        folder_paths.add_model_folder_path("diffusers", scratch)
        yield run("LoadDeepFloydIF", "floyd floyd_clip", stage_1_name="diffusers/stage-1", stage_2_name="diffusers/stage-2")


def _outputs_to(folder: Path) -> None:
    import folder_paths  # pyright: ignore[reportMissingImports]

    folder_paths.set_output_directory(str(folder / "output"))
    folder_paths.set_temp_directory(str(folder / "temp"))


def _tensor(output: Any) -> Tensor | None:
    """The tensor in an IMAGE, AUDIO or LATENT."""
    if isinstance(output, dict):
        output = output.get("waveform", output.get("samples"))
    return output if isinstance(output, Tensor) else None
