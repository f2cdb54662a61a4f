"""Between pictures and sounds: a spectrogram made audible by a vocoder or by Griffin-Lim, and a waveform made visible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_management
import comfy.model_patcher
import torch
import torch.nn.functional as F
from torch import Tensor

from ..itsound_core.colormap import apply_colormap
from ..itsound_core.griffin_lim import griffin_lim
from ..itsound_core.looping import close_loop, wrap
from ..itsound_core.spectrogram import AUFFUSION, limit_peak, normalize_peak, picture_to_log_mel, picture_to_mel, waveform_to_picture
from ..itsound_core.vocoder import HiFiGANConfig, replace_magnitude
from . import inputs

LOOP_COLUMNS = 32
"""Columns of the neighbouring turns that a loop is played with: beyond what an edge disturbs, 6 of them, and long enough to fade over."""


@dataclass(frozen=True)
class Vocoder:
    """What a VOCODER socket carries: log-mel (B, n_mels, frames) to waveform (B, frames x hop).

    `patcher.model` is the generator (float32). Load it with `comfy.model_management.load_models_gpu([patcher], force_full_load=True)` and
    call it on `patcher.load_device`.
    """

    patcher: comfy.model_patcher.ModelPatcher
    name: str
    """The loader's choice, for errors."""


def sound(waveform: Tensor) -> dict:
    """AUDIO of a waveform (B, T) at 16 kHz."""
    return {"waveform": waveform.float().cpu()[:, None], "sample_rate": AUFFUSION.sample_rate}


def spectrogram_of(waveform: Tensor, seconds: float = 0.0, normalize: bool = True) -> Tensor:
    """Gray IMAGE of a waveform (B, T) at 16 kHz, `seconds` of it (0: all), brought to a peak of 0.95 or as loud as it is."""
    frames = AUFFUSION.frames(seconds) if seconds > 0 else -(-waveform.shape[1] // AUFFUSION.hop_length)
    samples = max(frames, inputs.SHORTEST_PICTURE) * AUFFUSION.hop_length
    waveform = F.pad(waveform, (0, samples - waveform.shape[1]))
    return apply_colormap(waveform_to_picture(normalize_peak(waveform) if normalize else waveform), "gray")


def play(
    pictures: Tensor,
    vocoder: Vocoder | None = None,
    iterations: int = 48,
    keep_magnitude: bool = False,
    on_step: Callable[..., None] | None = None,
    loop: bool = False,
) -> Tensor:
    """Waveforms (B, frames x hop) on the CPU, within full scale, of pictures (B, 256, frames): by the vocoder, else by Griffin-Lim.

    on_step is called after each iteration of Griffin-Lim, and after each picture with a vocoder. With loop, each picture is one turn of a
    loop. Stops when the user cancels.
    """
    lead = min(LOOP_COLUMNS, pictures.shape[-1])

    def after_step(*_) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if on_step is not None:
            on_step()

    # One at a time: the memory needed does not grow with the batch, and an item sounds the same alone and in a batch.
    waveforms = []
    for picture in (wrap(pictures, lead) if loop else pictures).split(1):
        if vocoder is None:
            mel = picture_to_mel(picture.to(comfy.model_management.get_torch_device()))
            waveforms.append(griffin_lim(mel, iterations=iterations, on_step=after_step).cpu())
        else:
            waveforms.append(vocode(picture, vocoder, keep_magnitude).cpu())
            after_step()
    played = torch.cat(waveforms)
    return limit_peak(close_loop(played, lead * AUFFUSION.hop_length) if loop else played)


def vocode(picture: Tensor, vocoder: Vocoder, keep_magnitude: bool) -> Tensor:
    """Waveform (1, frames x hop) of a picture (1, 256, frames) by a VOCODER, on its device, in float32."""
    patcher = vocoder.patcher
    memory = activation_bytes(patcher.model.config, picture.shape[-1])
    comfy.model_management.load_models_gpu([patcher], memory_required=memory, force_full_load=True)
    log_mel = picture_to_log_mel(picture.to(patcher.load_device))
    waveform = patcher.model(log_mel)
    return replace_magnitude(waveform, log_mel.exp()) if keep_magnitude else waveform


def activation_bytes(config: HiFiGANConfig, frames: int) -> int:
    """Memory of a HiFi-GAN's widest stage in float32: the outputs of its residual blocks, their stack, and one block at work."""
    lengths = [frames * math.prod(config.upsample_rates[: stage + 1]) for stage in range(len(config.upsample_rates))]
    widest = max(length * config.upsample_initial_channel >> stage + 1 for stage, length in enumerate(lengths))
    return 4 * widest * (2 * len(config.resblock_kernel_sizes) + 4)
