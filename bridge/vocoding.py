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
from ..itsound_core.spectrogram import (
    AUFFUSION,
    SpectrogramFormat,
    limit_peak,
    normalize_peak,
    picture_to_log_mel,
    picture_to_mel,
    waveform_to_picture,
)
from ..itsound_core.views import FORMATS, VIEWS, canvas_rows
from ..itsound_core.vocoder import Vocoder, replace_magnitude
from .progress import interruptible

GRIFFIN_LIM_BYTES = 45_000
"""Memory of Griffin-Lim a frame in Auffusion's format: 39 to 43 kB measured. In another it grows with the window."""
ITERATIONS = 48
"""Of Griffin-Lim, unless another number is chosen."""
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


def sound(waveform: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> dict:
    """AUDIO of a waveform (B, T) at the format's rate (Auffusion's is 16 kHz)."""
    return {"waveform": waveform.float().cpu()[:, None], "sample_rate": fmt.sample_rate}


def refuse_vocoder(node: str, vocoder: LoadedVocoder | None, view: str) -> None:
    """Raise ValueError where a vocoder, which knows Auffusion's mel bands only, is to play another format."""
    if vocoder is not None and FORMATS[view] != AUFFUSION:
        raise ValueError(
            f"{node}: view is {view}, whose {FORMATS[view].n_mels} rows no vocoder here can play; they are trained on Auffusion's "
            f"{AUFFUSION.n_mels}. Disconnect vocoder: Griffin-Lim makes the sound."
        )


def spectrogram_of(
    waveform: Tensor, seconds: float = 0.0, normalize: bool = True, on_step: OnStep | None = None, view: str = "none"
) -> Tensor:
    """Gray IMAGE of a waveform (B, T) at the view's rate, `seconds` of it (0: all), brought to a peak of 0.95 or as loud as it is.

    With a view, as its canvas. Stops when the user cancels.
    """
    fmt, rows = FORMATS[view], canvas_rows(VIEWS[view])
    frames = fmt.frames(seconds) if seconds > 0 else -(-waveform.shape[1] // fmt.hop_length) + fmt.centred
    frames = rows * max(-(-frames // rows), fmt.shortest)
    samples = fmt.samples(frames)
    waveform = waveform[:, :samples]
    if waveform.shape[1] < samples:
        waveform = F.pad(waveform, (0, samples - waveform.shape[1]))
    if normalize:
        waveform = normalize_peak(waveform)
    return as_gray(VIEWS[view].inverse_view(waveform_to_picture(waveform, fmt, interruptible(on_step))))


def play(
    pictures: Tensor,
    vocoder: LoadedVocoder | None = None,
    iterations: int = ITERATIONS,
    keep_magnitude: bool = False,
    on_step: OnStep | None = None,
    loop: bool = False,
    fmt: SpectrogramFormat = AUFFUSION,
) -> Tensor:
    """Waveforms (B, samples) on the CPU, within full scale, of pictures (B, n_mels, frames): by the vocoder, else by Griffin-Lim.

    A format that keeps no loudness is played at a peak of 0.95; a vocoder plays Auffusion's only.
    on_step is called after each iteration of Griffin-Lim, and after each piece of a picture with a vocoder, with steps done and in all.
    With loop, each picture is one turn of a loop. Stops when the user cancels.
    """
    lead = min(LOOP_COLUMNS, pictures.shape[-1] - fmt.centred)
    waveforms: list[Tensor] = []

    def after_step(done: int, steps: int) -> None:
        if on_step:
            on_step(len(waveforms) * steps + done, len(pictures) * steps)

    # One at a time: the memory needed does not grow with the batch, and an item sounds the same alone and in a batch.
    for picture in (wrap(pictures, lead, fmt.centred) if loop else pictures).split(1):
        if vocoder is None:
            device = comfy.model_management.get_torch_device()
            memory = GRIFFIN_LIM_BYTES * fmt.win_length // AUFFUSION.win_length
            comfy.model_management.free_memory(memory * picture.shape[-1], device)
            mel = picture_to_mel(picture.to(device), fmt)
            waveforms.append(griffin_lim(mel, iterations=iterations, fmt=fmt, on_step=interruptible(after_step)).cpu())
        else:
            waveforms.append(vocode(picture, vocoder, keep_magnitude, interruptible(after_step)).cpu())
    played = torch.cat(waveforms)
    played = close_loop(played, lead * fmt.hop_length) if loop else played
    return limit_peak(played) if fmt.exponent is None else normalize_peak(played)


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
