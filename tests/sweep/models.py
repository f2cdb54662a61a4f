"""Small models of every kind that a socket takes, the odd ones beside them, and a count of the work that they do."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from functools import cached_property, wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.hooks
import comfy.latent_formats
import comfy.model_sampling
import comfy.samplers
import comfy.supported_models
import comfy.utils
import folder_paths
import torch
from diffusers_folders import text_encoder, write_color_folder, write_folder, write_tokenizer
from tiny_models import random_model

KEYS = ("checkpoints", "diffusion_models", "diffusers", "text_encoders", "vae", "vocoders", "scorers", "embeddings")


def use_folder(base: Path) -> Path:
    """Let ComfyUI find models under `base`/models alone, and write into folders beside it; returns the models folder."""
    for key in KEYS:
        (base / "models" / key).mkdir(parents=True, exist_ok=True)
        extensions = folder_paths.folder_names_and_paths[key][1] if key in folder_paths.folder_names_and_paths else set()
        folder_paths.folder_names_and_paths[key] = ([str(base / "models" / key)], extensions)
    folder_paths.filename_list_cache.clear()
    for name in ("output", "temp", "input"):
        (base / name).mkdir(exist_ok=True)
    folder_paths.set_output_directory(str(base / "output"))
    folder_paths.set_temp_directory(str(base / "temp"))
    folder_paths.set_input_directory(str(base / "input"))
    return base / "models"


def _link(folder: Path, place: Path) -> None:
    """A folder of the same files in another place."""
    place.mkdir(parents=True)
    for file in folder.iterdir():
        (place / file.name).symlink_to(file.resolve())


class Models:
    """Made when they are asked for. `work` counts evaluations of models: what is refused should be refused before the first."""

    def __init__(self, pack: ModuleType, base: Path) -> None:
        self.pack, self.folder, self.work = pack, use_folder(base), 0
        self.names: dict[str, list[str]] | None = None
        comfy.utils.set_progress_bar_enabled(False)

    def module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.pack.__name__}.{name}")

    def _counted(self, function: Callable) -> Callable:
        @wraps(function)
        def counting(*args: Any, **kwargs: Any) -> Any:
            self.work += 1
            return function(*args, **kwargs)

        return counting

    def _model(self, patcher: Any) -> Any:
        patcher.model.apply_model = self._counted(patcher.model.apply_model)
        return patcher

    @cached_property
    def written(self) -> Path:
        """The folder with a model of every kind that loaders choose from. It is written once: what can be chosen stays the same."""
        import tiny_deepfloyd

        write_folder(self.folder / "diffusers" / "picture", seed=1)
        write_folder(self.folder / "diffusers" / "sound", seed=2)
        write_color_folder(self.folder / "diffusers" / "colour", cross_attention_dim=32)
        text_encoder().save_pretrained(self.folder / "diffusers" / "colour" / "text_encoder")
        write_tokenizer(self.folder / "diffusers" / "colour" / "tokenizer")
        tiny_deepfloyd.write_stage_1(self.folder / "diffusers" / "stage-1")
        tiny_deepfloyd.write_stage_2(self.folder / "diffusers" / "stage-2")
        embedded = self.module("itsound_core.embedded")
        for place in ("vocoders/own", "vocoders/sub folder/ü", "diffusers/sound/vocoder"):
            _link(embedded.VOCODER_FOLDER, self.folder / place)
        _link(embedded.CLIP_FOLDER, self.folder / "scorers" / "pictures")
        _link(embedded.CLAP_FOLDER, self.folder / "scorers" / "sounds")
        folder_paths.filename_list_cache.clear()
        return self.folder

    @cached_property
    def _pair(self) -> tuple:
        assert self.written
        load = self.module("nodes.loaders").LoadDualUNets.execute
        image, image_clip, audio, audio_clip, vae = load(image_model_name="diffusers/picture", audio_model_name="diffusers/sound").args
        vae.encode, vae.decode = self._counted(vae.encode), self._counted(vae.decode)
        return self._model(image), image_clip, self._model(audio), audio_clip, vae

    image_model = property(lambda self: self._pair[0])
    image_clip = property(lambda self: self._pair[1])
    audio_model = property(lambda self: self._pair[2])
    vae = property(lambda self: self._pair[4])

    def random(self, kind: type = comfy.supported_models.SD15, **config: Any) -> Any:
        model, generator = random_model(kind, **config), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weights in model.model.diffusion_model.parameters():  # ComfyUI's layers are made of whatever lay in memory
                weights.copy_(torch.randn(weights.shape, generator=generator) * 0.05)
        return self._model(model)

    @cached_property
    def inpainting(self) -> Any:
        return self.random(in_channels=9)

    @cached_property
    def sixteen_channels(self) -> Any:
        model = self.random(in_channels=16, out_channels=16)
        model.model.latent_format = comfy.latent_formats.SD3()
        return model

    @cached_property
    def flow(self) -> Any:
        model = self.random()

        class Sampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
            pass

        model.add_object_patch("model_sampling", Sampling(model.model.model_config))
        return model

    @cached_property
    def wide_text(self) -> Any:
        return self.random(context_dim=768)

    @cached_property
    def nan_model(self) -> Any:
        model = self.random()
        with torch.no_grad():
            next(model.model.diffusion_model.parameters()).fill_(torch.nan)
        return model

    @cached_property
    def pixel_model(self) -> Any:
        assert self.written
        (model, *_) = self.module("bridge.models").load_color_model("diffusers/colour")
        return self._model(model)

    def _windowed(self, length: int, overlap: int) -> Any:
        import comfy.context_windows as windows

        model = self.image_model.clone()
        model.model_options["context_handler"] = windows.IndexListContextHandler(
            context_schedule=windows.get_matching_context_schedule("standard_static"),
            fuse_method=windows.get_matching_fuse_method("pyramid"), context_length=length, context_overlap=overlap, dim=3,
        )  # fmt: skip
        return model

    @cached_property
    def windows(self) -> Any:
        return self._windowed(4, 1)

    @cached_property
    def bad_windows(self) -> Any:
        return self._windowed(4, 4)

    @cached_property
    def examples(self) -> Any:
        pictures = torch.rand(1, 256, 64, 3, generator=torch.Generator().manual_seed(3))
        return self.module("nodes.examples").ExamplesAsModel.execute(pictures, self.vae, 0.0, "1", False).args[0]

    @cached_property
    def nan_vae(self) -> Any:
        vae = copy.copy(self.vae)
        vae.encode = self._counted(lambda pixels, *_: torch.full((len(pixels), 4, pixels.shape[1] // 8, pixels.shape[2] // 8), torch.nan))
        vae.decode = self._counted(lambda latents, *_: torch.full((len(latents), 8 * latents.shape[2], 8 * latents.shape[3], 3), torch.nan))
        return vae

    @cached_property
    def sixteen_channel_vae(self) -> Any:
        vae = copy.copy(self.vae)
        vae.latent_channels = 16
        vae.encode = lambda pixels, *_: torch.zeros(len(pixels), 16, pixels.shape[1] // 8, pixels.shape[2] // 8)
        return vae

    @cached_property
    def vocoder(self) -> Any:
        loaded = self.module("nodes.loaders").LoadVocoder.execute("embedded").args[0]
        loaded.patcher.model.forward = self._counted(loaded.patcher.model.forward)
        return loaded

    @cached_property
    def nan_vocoder(self) -> Any:
        loaded = self.module("nodes.loaders").LoadVocoder.execute("embedded").args[0]
        with torch.no_grad():
            next(loaded.patcher.model.parameters()).fill_(torch.nan)
        return loaded

    @cached_property
    def scorer(self) -> Any:
        scorer = self.module("nodes.scoring").LoadScorers.execute("embedded", "embedded").args[0]
        for patcher in (scorer.picture, scorer.sound):
            patcher.model.forward = self._counted(patcher.model.forward)
        return scorer

    @cached_property
    def scores(self) -> Any:
        return self._scores(torch.tensor([30.0, 20.0]), torch.tensor([10.0, 40.0]))

    @cached_property
    def nan_scores(self) -> Any:
        return self._scores(torch.tensor([30.0, torch.nan]), torch.tensor([10.0, torch.nan]))

    @cached_property
    def no_scores(self) -> Any:
        return self._scores(torch.zeros(0), torch.zeros(0))

    def _scores(self, picture: torch.Tensor, sound: torch.Tensor) -> Any:
        prompts = ("a castle",) * len(picture)
        return self.module("itsound_core.scoring").Scores(picture, sound, prompts, prompts)

    def text(self, seed: int) -> list:
        return [[torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(seed)), {}]]

    guider = cached_property(lambda self: self._guider("none"))
    square_guider = cached_property(lambda self: self._guider("two-row square"))
    riffusion_guider = cached_property(lambda self: self._guider("Riffusion"))

    def _guider(self, view: str) -> Any:
        given = {"image_model": self.image_model, "audio_model": self.audio_model, "image_cfg": 2.0, "audio_cfg": 2.0}
        given |= {
            name: self.text(seed) for seed, name in enumerate(("image_positive", "image_negative", "audio_positive", "audio_negative"))
        }
        given |= {"t_image": 0.9, "t_audio": 1.0, "audio_weight": 0.5, "view": view}
        return self.module("nodes.sampling").MultimodalGuider.execute(**given).args[0]

    @cached_property
    def core_guider(self) -> Any:
        guider = comfy.samplers.CFGGuider(self.image_model)
        guider.set_conds(self.text(1), self.text(2))
        return guider

    no_guider = property(lambda self: object())
    picture_tensor = property(lambda self: torch.zeros(1, 256, 64, 3))

    @cached_property
    def deepfloyd(self) -> Any:
        assert self.written
        deepfloyd = self.module("nodes.colorize").LoadDeepFloydIF.execute("diffusers/stage-1", "diffusers/stage-2").args[0]
        for stage in (deepfloyd.stage_1, deepfloyd.stage_2):
            stage.unet.forward = self._counted(stage.unet.forward)
        return deepfloyd

    def hooks(self, kind: str) -> Any:
        """A hook of that kind that fits `image_model`: "lora"."""
        name, width = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_v", 64
        lora = {f"{name}.lora_up.weight": torch.ones(width, 2), f"{name}.lora_down.weight": torch.ones(2, width)}
        return comfy.hooks.create_hook_lora(lora, 1.0, 0.0)
