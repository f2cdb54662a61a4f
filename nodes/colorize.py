"""Colour that keeps the sound: FactorizedColorize, and loaders of a pixel-space model and of DeepFloyd IF."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import comfy.model_patcher
import comfy.samplers
import comfy.sd
from comfy_api.latest import io
from torch import Tensor

from ..bridge import files, inputs, picture_inputs
from ..bridge.color_sampling import Request
from ..bridge.colorizing import Way, colorize
from ..bridge.deepfloyd_folder import DEEPFLOYD_DTYPES, TOKENS, DeepFloydIF, load_deepfloyd
from ..bridge.models import load_color_model
from ..bridge.progress import tell
from ..bridge.sampling_inputs import LARGEST_SEED
from ..itsound_core import embedded
from ..itsound_core.deepfloyd import CONDITION_LEVEL

NODE = "FactorizedColorize"

logger = logging.getLogger(__name__)


class FactorizedColorize(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=NODE,
            display_name="Colorize Spectrogram",
            category="Images that Sound/picture",
            description="Paints a spectrogram in the colours of a prompt while its gray version, which is the sound, stays exactly as it "
            "is: save the coloured picture, load it and play it, and it sounds the same. Takes any pixel-space model, any image model "
            "with its VAE, or DeepFloyd IF as in the paper.",
            search_aliases=["factorized diffusion", "colorize", "colour", "deepfloyd", "images that sound"],
            inputs=[
                io.Image.Input("spectrogram", tooltip="The spectrogram, 256 pixels high. Of a colour picture the channel mean counts."),
                io.MultiType.Input(
                    "model",
                    [io.Model, io.Custom("DEEPFLOYD_IF")],
                    tooltip="What paints: a pixel-space model (LoadColorModel, Chroma Radiance, PixelDiT), any other image model (connect "
                    "its VAE too), or LoadDeepFloydIF.",
                ),
                io.Conditioning.Input("positive", tooltip='What the picture shows, in colour: "a colorful photo of a castle".'),
                io.Conditioning.Input("negative", tooltip="What it should not show; usually the empty prompt."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=True,
                    tooltip="Seed of the noise. Other seeds give other colours of the same picture.",
                ),
                io.Int.Input(
                    "steps", default=30, min=1, max=10000, tooltip="Denoising steps, those before start_step included. 30 in the paper."
                ),
                io.Float.Input(
                    "cfg",
                    default=10.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance scale: how strictly the prompt is followed. 10 in the paper; the embedded model likes 3.",
                ),
                io.Int.Input(
                    "start_step",
                    default=7,
                    min=0,
                    max=9999,
                    tooltip="The step at which sampling starts, from the noised spectrogram. Later keeps closer to gray. 7 of 30 in "
                    "the paper.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="ddim",
                    tooltip="Sampler. Not used with DeepFloyd IF, which predicts its own variance and has its own.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    default="ddim_uniform",
                    tooltip="Spacing of the noise levels. Not used with DeepFloyd IF.",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="The model's VAE, if it works on latents (SD 1.5, SDXL, Flux). Else leave it open."
                ),
                io.Int.Input(
                    "vae_interval",
                    default=3,
                    min=1,
                    max=1000,
                    optional=True,
                    advanced=True,
                    tooltip="With a latent model: every vae_interval steps the estimate is decoded, given the spectrogram's gray and "
                    "encoded again, at the cost of about two more steps. 1 follows the picture closest.",
                ),
                io.Int.Input(
                    "noise_level",
                    default=CONDITION_LEVEL,
                    min=0,
                    max=999,
                    optional=True,
                    advanced=True,
                    tooltip="With DeepFloyd IF: how far stage I's picture is noised before stage II sees it, as a timestep. 50 in the "
                    "paper; higher leaves stage II more freedom. Not used with other models.",
                ),
                picture_inputs.view_choice(
                    "two-row square, Riffusion: the spectrogram is the picture of 512 rows, which is painted as it is seen.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture in colour. It sounds as the spectrogram does, also once saved.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        spectrogram: Tensor,
        model: comfy.model_patcher.ModelPatcher | DeepFloydIF,
        positive: list,
        negative: list,
        seed: int,
        steps: int,
        cfg: float,
        start_step: int,
        sampler_name: str,
        scheduler: str,
        vae: comfy.sd.VAE | None = None,
        vae_interval: int = 3,
        noise_level: int = CONDITION_LEVEL,
        view: str = "none",
    ) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        request = Request(NODE, positive, negative, seed, steps, cfg, start_step)
        way = Way(model, sampler_name, scheduler, vae, vae_interval, noise_level)
        pixels, remarks = colorize(spectrogram, request, way, view)
        logger.info("%s: %s", NODE, " ".join(remarks))
        tell(cls.hidden, "\n".join(remarks))
        return io.NodeOutput(pixels)


class LoadColorModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadColorModel",
            display_name="Load Color Model",
            category="Images that Sound/loaders",
            description="Loads a small diffusion model that works on pixels, for Colorize Spectrogram. 'embedded' comes with this pack and "
            "paints at a quarter size; its prompts are read by the embedded image model's text encoder.",
            search_aliases=["pixel-space model", "colorize", "diffusers"],
            inputs=[
                io.Combo.Input(
                    "color_model_name",
                    options=[files.EMBEDDED, *_diffusers_names()],
                    tooltip="'embedded', or a folder under models/diffusers with a UNet of three channels and its text encoder.",
                )
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The pixel-space model, for Colorize Spectrogram."),
                io.Clip.Output(display_name="clip", tooltip="The text encoder for its prompts."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, color_model_name: str) -> Any:
        """Changes when the model's files were replaced on disk."""
        return files.stamp_of(partial(files.model_path, embedded_folder=embedded.COLOR_FOLDER), color_model_name)

    @classmethod
    def execute(cls, color_model_name: str) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        with files.naming("LoadColorModel", "color_model_name", color_model_name):
            return io.NodeOutput(*load_color_model(color_model_name))


class LoadDeepFloydIF(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadDeepFloydIF",
            display_name="Load DeepFloyd IF",
            category="Images that Sound/loaders",
            description="Loads both stages of DeepFloyd IF, the paper's model for colour, from folders under models/diffusers. Its licence "
            "must be accepted where it is downloaded. Needs the Python package diffusers.",
            search_aliases=["deepfloyd", "IF-I-M", "IF-II-M", "colorize"],
            inputs=[
                io.Combo.Input(
                    "stage_1_name", options=_diffusers_names(), tooltip="Stage I, the folder IF-I-M-v1.0 (or L, XL) under models/diffusers."
                ),
                io.Combo.Input(
                    "stage_2_name", options=_diffusers_names(), tooltip="Stage II, the folder IF-II-M-v1.0 (or L) under models/diffusers."
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=DEEPFLOYD_DTYPES,
                    default="default",
                    advanced=True,
                    tooltip="Number format of both UNets. 'default' is fp16 on a GPU that computes in it, else fp32.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="A CLIP with T5-XXL, such as CLIPLoader makes of t5xxl_fp16 or fp8; the same text encoder as in stage I's "
                    "folder, which is then not needed.",
                ),
            ],
            outputs=[
                io.Custom("DEEPFLOYD_IF").Output(display_name="deepfloyd if", tooltip="Both stages, for Colorize Spectrogram."),
                io.Clip.Output(
                    "text_encoder", display_name="clip", tooltip=f"T5 as DeepFloyd IF reads it: prompts of {TOKENS} tokens at most."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, stage_1_name: str, stage_2_name: str, **others: Any) -> Any:
        """Changes when a stage's files were replaced on disk."""
        return [files.stamp_of(files.model_path, name) for name in (stage_1_name, stage_2_name)]

    @classmethod
    def execute(
        cls, stage_1_name: str, stage_2_name: str, weight_dtype: str = "default", clip: comfy.sd.CLIP | None = None
    ) -> io.NodeOutput:
        inputs.in_range(cls, locals())
        return io.NodeOutput(*load_deepfloyd(stage_1_name, stage_2_name, weight_dtype, clip))


def _diffusers_names() -> list[str]:
    return [f"diffusers/{name}" for name in files.folder_names("diffusers", files.MODEL_INDEX)]


NODES = [FactorizedColorize, LoadColorModel, LoadDeepFloydIF]
