"""Between pictures and sounds: a spectrogram made audible by a vocoder or by Griffin-Lim, and a waveform made visible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import comfy.model_management
import comfy.model_patcher
import torch
import torch.nn.functional as F
from torch import Tensor

from ..itsound_core.colormap import as_gray
from ..itsound_core.griffin_lim import griffin_lim
from ..itsound_core.looping import close_loop, wrap
from ..itsound_core.progress import OnStep
from ..itsound_core.spectrogram import AUFFUSION, limit_peak, normalize_peak, picture_to_log_mel, picture_to_mel, waveform_to_picture
from ..itsound_core.vocoder import Vocoder, replace_magnitude
from . import inputs
from .progress import interruptible

GRIFFIN_LIM_BYTES = 45_000
"""Memory of Griffin-Lim a frame: 39 to 43 kB measured."""
LOOP_COLUMNS = 32
"""Columns of the neighbouring turns that a loop is played with: beyond what an edge disturbs, 6 of them, and long enough to fade over."""


@dataclass(frozen=True)
class LoadedVocoder:
    """What a VOCODER socket carries.

    `patcher.model` is a `Vocoder` (float32). Load it with `comfy.model_management.load_models_gpu([patcher], force_full_load=True)` and
    call it on `patcher.load_device`.
    """

    patcher: comfy.model_patcher.ModelPatcher
    name: str
    """The loader's choice, for errors."""


def sound(waveform: Tensor) -> dict:
    """AUDIO of a waveform (B, T) at 16 kHz."""
    return {"waveform": waveform.float().cpu()[:, None], "sample_rate": AUFFUSION.sample_rate}


def spectrogram_of(waveform: Tensor, seconds: float = 0.0, normalize: bool = True, on_step: OnStep | None = None) -> Tensor:
    """Gray IMAGE of a waveform (B, T) at 16 kHz, `seconds` of it (0: all), brought to a peak of 0.95 or as loud as it is.

    Stops when the user cancels.
    """
    frames = AUFFUSION.frames(seconds) if seconds > 0 else -(-waveform.shape[1] // AUFFUSION.hop_length)
    samples = max(frames, inputs.SHORTEST_PICTURE) * AUFFUSION.hop_length
    waveform = waveform[:, :samples]
    if waveform.shape[1] < samples:
        waveform = F.pad(waveform, (0, samples - waveform.shape[1]))
    if normalize:
        waveform = normalize_peak(waveform)
    return as_gray(waveform_to_picture(waveform, on_step=interruptible(on_step)))


def play(
    pictures: Tensor,
    vocoder: LoadedVocoder | None = None,
    iterations: int = 48,
    keep_magnitude: bool = False,
    on_step: OnStep | None = None,
    loop: bool = False,
) -> Tensor:
    """Waveforms (B, frames x hop) on the CPU, within full scale, of pictures (B, 256, frames): by the vocoder, else by Griffin-Lim.

    on_step is called after each iteration of Griffin-Lim, and after each piece of a picture with a vocoder, with steps done and in all.
    With loop, each picture is one turn of a loop. Stops when the user cancels.
    """
    lead = min(LOOP_COLUMNS, pictures.shape[-1])
    waveforms: list[Tensor] = []

    def after_step(done: int, steps: int) -> None:
        if on_step:
            on_step(len(waveforms) * steps + done, len(pictures) * steps)

    # One at a time: the memory needed does not grow with the batch, and an item sounds the same alone and in a batch.
    for picture in (wrap(pictures, lead) if loop else pictures).split(1):
        if vocoder is None:
            device = comfy.model_management.get_torch_device()
            comfy.model_management.free_memory(GRIFFIN_LIM_BYTES * picture.shape[-1], device)
            mel = picture_to_mel(picture.to(device))
            waveforms.append(griffin_lim(mel, iterations=iterations, on_step=interruptible(after_step)).cpu())
        else:
            waveforms.append(vocode(picture, vocoder, keep_magnitude, interruptible(after_step)).cpu())
    played = torch.cat(waveforms)
    return limit_peak(close_loop(played, lead * AUFFUSION.hop_length) if loop else played)


def vocode(picture: Tensor, loaded: LoadedVocoder, keep_magnitude: bool, on_step: OnStep) -> Tensor:
    """Waveform (1, frames x hop) of a picture (1, 256, frames) by a VOCODER, on its device, in float32.

    Raises ValueError naming the vocoder where its sound is NaN or infinite.
    """
    patcher, vocoder = loaded.patcher, cast(Vocoder, loaded.patcher.model)
    memory = vocoder.activation_bytes(picture.shape[-1])
    comfy.model_management.load_models_gpu([patcher], memory_required=memory, force_full_load=True)
    log_mel = picture_to_log_mel(picture.to(patcher.load_device))
    waveform = vocoder(log_mel, on_step)
    if not waveform.isfinite().all():
        raise ValueError(
            f'LoadVocoder: vocoder_name is "{loaded.name}", and its sound is NaN or infinite: its weights are damaged. Download it again, '
            "choose another, or leave the vocoder socket open: Griffin-Lim needs none."
        )
    return replace_magnitude(waveform, log_mel.exp()) if keep_magnitude else waveform
