"""The ways to a colour part: a pixel-space MODEL, a latent one with its VAE, and DeepFloyd IF, all under the spectrogram's gray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import latent_preview
import torch
import torch.nn.functional as F
from torch import Tensor

from ..itsound_core import deepfloyd
from ..itsound_core.colorize import enlarge_color, split_gray, with_gray, within_gamut
from ..itsound_core.pixels import RGB
from . import conditioning_inputs
from .deepfloyd_folder import DeepFloydIF, Stage
from .sampling_inputs import context_windows, noise_levels, sampler_seed
from .unet_folder import Pixels

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


@dataclass(frozen=True)
class Request:
    """What is asked of a model, whichever it is; `node` is what errors name."""

    node: str
    positive: list
    negative: list
    seed: int
    steps: int
    cfg: float
    start_step: int

    @property
    def text(self) -> dict[str, list]:
        """CONDITIONING by the name of its socket."""
        return {"positive": self.positive, "negative": self.negative}


class PixelProjection:
    """Sampling in pixels under the spectrogram's gray, at the share of its size that the model's latent format says."""

    def __init__(self, model: comfy.model_patcher.ModelPatcher, gray: Tensor):
        self.format = model.get_model_object("latent_format")
        self.gray = gray
        self.coarse = F.interpolate(gray, scale_factor=1 / self.format.spacial_downscale_ratio, mode="area")
        self.given = 2 * self.coarse - 1

    def encode(self) -> Tensor:
        """The spectrogram as the sampler's latents."""
        return self.given.expand(-1, RGB, -1, -1)

    def patch(self, model: comfy.model_patcher.ModelPatcher) -> None:
        """Project every x0 estimate of the model: the guided one, and those it is guided from, which some samplers (CFG++) step along."""
        model.set_model_sampler_pre_cfg_function(lambda args: [self._project(denoised) for denoised in args["conds_out"]])
        model.set_model_sampler_post_cfg_function(lambda args: self._project(args["denoised"]))

    def _project(self, denoised: Tensor) -> Tensor:
        pixels = self.format.process_out(denoised)
        self.given = self.given.to(pixels)  # copied to the device once, at the first step
        return self.format.process_in(with_gray(pixels, self.given))

    def color(self, samples: Tensor) -> Tensor:
        """Colour part of what was sampled, as large as the spectrogram."""
        color = split_gray(samples.to(self.gray))[1] / 2
        return color if color.shape[-2:] == self.gray.shape[-2:] else enlarge_color(color, self.coarse, self.gray)


class LatentProjection:
    """Sampling in latents: at every `interval`th step the x0 estimate is decoded, projected and encoded again; at the end it is decoded.

    A latent has no gray part, so between those steps the gray only follows by itself, and a VAE's round trip loses some detail each time.
    """

    def __init__(self, model: comfy.model_patcher.ModelPatcher, gray: Tensor, vae: comfy.sd.VAE, sigmas: Tensor, interval: int):
        self.model, self.format = model, model.get_model_object("latent_format")
        self.gray, self.vae, self.sigmas, self.interval = gray, vae, sigmas.cpu(), interval

    def encode(self) -> Tensor:
        """The spectrogram as the sampler's latents."""
        return self._encode(self.gray.expand(-1, RGB, -1, -1))

    def patch(self, model: comfy.model_patcher.ModelPatcher) -> None:
        """Project the model's guided x0 estimate, at the first step and those `interval` apart from it."""
        model.set_model_sampler_post_cfg_function(self._project)

    def _project(self, args: dict) -> Tensor:
        denoised = args["denoised"]
        # A sampler of higher order also asks between two steps' sigmas: that belongs to the step before.
        step = int((self.sigmas >= 0.9999 * float(args["sigma"].max())).sum()) - 1
        if step % self.interval:
            return denoised
        sampling = comfy.model_management.loaded_models(only_currently_used=True)
        color = split_gray(self._decode(self.format.process_out(denoised)))[1]
        latents = self._encode(within_gamut(self.gray, color))
        # The VAE may have taken its place. As when sampling began, a step's memory stays free: with both prompts at once, or one by one.
        both, one = (self.model.memory_required([count * len(denoised), *denoised.shape[1:]]) for count in (2, 1))
        comfy.model_management.load_models_gpu(sampling, memory_required=both, minimum_memory_required=one)
        return self.format.process_in(latents.to(denoised))

    def color(self, samples: Tensor) -> Tensor:
        """Colour part of what was sampled, as large as the spectrogram."""
        return split_gray(self._decode(samples))[1]

    def _decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents).movedim(-1, 1).to(self.gray)  # BHWC -> BCHW

    def _encode(self, pictures: Tensor) -> Tensor:
        return self.vae.encode(pictures.movedim(1, -1))  # BCHW -> BHWC


def model_color(
    gray: Tensor,
    request: Request,
    model: comfy.model_patcher.ModelPatcher,
    sampler_name: str,
    scheduler: str,
    vae: comfy.sd.VAE | None,
    vae_interval: int,
) -> Tensor:
    """Colour part (B, 3, H, W), in units of gray, for spectrograms (B, 1, H, W) in 0..1, by any MODEL.

    Sampling starts from the noised spectrogram with as many steps to go as `start_step` of `steps` leaves. Raises ValueError where
    model, VAE and conditioning do not go together.
    """
    _check_model(request.node, model, vae)
    conditioning_inputs.text(request.node, "model", request.text, conditioning_inputs.text_width(model))

    sigmas = noise_levels(request.node, model, request.steps, sampler_name, scheduler)
    latent_format = model.get_model_object("latent_format")
    height, width = (side // latent_format.spacial_downscale_ratio for side in gray.shape[-2:])
    context_windows(request.node, "model", model.model_options, (len(gray), latent_format.latent_channels, height, width))
    conditioning_inputs.regions(request.node, "", request.text, height, width)
    # Counted from the end: some schedules have a step more than they were asked for.
    sigmas = sigmas[-(request.steps - request.start_step + 1) :]
    model = model.clone()
    canvas = PixelProjection(model, gray) if vae is None else LatentProjection(model, gray, vae, sigmas, vae_interval)
    canvas.patch(model)
    latents = canvas.encode()
    samples = comfy.sample.sample_custom(
        model,
        comfy.sample.prepare_noise(latents, request.seed),
        request.cfg,
        comfy.samplers.sampler_object(sampler_name),
        sigmas,
        request.positive,
        request.negative,
        latents,
        callback=latent_preview.prepare_callback(model, sigmas.shape[-1] - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=sampler_seed(request.seed),
    )
    return canvas.color(samples)


def deepfloyd_color(gray: Tensor, request: Request, floyd: DeepFloydIF, noise_level: int) -> Tensor:
    """Colour part (B, 3, H, W), in units of gray, for spectrograms (B, 1, H, W) in 0..1, by both stages of DeepFloyd IF.

    One spectrogram after the other, each with a seed of its own; stage II is loaded when stage I has painted all. Raises ValueError where
    the conditioning is not its T5's or `noise_level` none of stage II's timesteps, and can be interrupted between two steps.
    """
    levels = floyd.noising_scheduler.config.num_train_timesteps
    if not 0 <= noise_level < levels:
        raise ValueError(f"{request.node}: noise_level is {noise_level}; this stage II knows 0 to {levels - 1}. The paper's is 50.")
    floyd.check_text(request.node, "model", request.text)
    generators = [torch.Generator().manual_seed((request.seed + item) % 2**64) for item in range(len(gray))]
    total = len(gray) * (2 * request.steps - request.start_step)
    progress = comfy.utils.ProgressBar(total)
    previewer = latent_preview.get_previewer(floyd.stage_1.patcher.load_device, Pixels(gray.shape[-2]))

    def report(x0: Tensor) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        preview = previewer.decode_latent_to_preview_image("JPEG", x0) if previewer else None
        progress.update_absolute(progress.current + 1, total, preview)

    def load(stage: Stage, reduction: int) -> tuple[UNet2DConditionModel, Sequence[Tensor], deepfloyd.Guidance]:
        height, width = (size // reduction for size in gray.shape[-2:])
        memory = stage.activation_bytes(height, width)
        comfy.model_management.load_models_gpu([stage.patcher], memory_required=memory, force_full_load=True)
        canvas, prompt, null = (tensor.to(stage.patcher.load_device) for tensor in (gray, request.positive[0][0], request.negative[0][0]))
        return stage.unet, canvas.split(1), deepfloyd.Guidance(prompt, null, request.cfg)

    unet, spectrograms, guidance = load(floyd.stage_1, deepfloyd.REDUCTION)
    coarse = [
        deepfloyd.stage_1(unet, floyd.stage_1.scheduler, spectrogram, guidance, request.steps, request.start_step, generator, report)
        for spectrogram, generator in zip(spectrograms, generators, strict=True)
    ]
    unet, spectrograms, guidance = load(floyd.stage_2, 1)
    pictures = [
        deepfloyd.stage_2(
            *(unet, floyd.stage_2.scheduler, floyd.noising_scheduler, picture, spectrogram),
            *(guidance, request.steps, generator, report, noise_level),
        )
        for picture, spectrogram, generator in zip(coarse, spectrograms, generators, strict=True)
    ]
    return split_gray(torch.cat(pictures))[1] / 2


def _check_model(node: str, model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE | None) -> None:
    latent_format, kind = model.get_model_object("latent_format"), type(model.model.model_config).__name__
    channels = latent_format.latent_channels
    if latent_format.latent_dimensions != 2:
        raise ValueError(f"{node}: model is {kind}, which makes videos or sounds. Connect an image model.")
    if channels == RGB and vae is not None:
        raise ValueError(f"{node}: model is {kind}, which works on pixels, but vae is connected. Disconnect vae.")
    if channels != RGB and vae is None:
        raise ValueError(
            f"{node}: model is {kind}, which works on latents of {channels} channels, and vae is not connected. Connect its VAE, or use a "
            "model that works on pixels, from LoadColorModel."
        )
    if vae is not None and vae.latent_channels != channels:
        raise ValueError(
            f"{node}: vae makes latents of {vae.latent_channels} channels, model ({kind}) works on {channels}. Connect the model's own VAE."
        )
