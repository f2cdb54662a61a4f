"""An AUDIO of any kind: its samples and rate, and how many channels become one."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..itsound_core.resampling import resample
from ..itsound_core.spectrogram import AUFFUSION
from .inputs import finite, shown
from .progress import interruptible

CANCELLED = 0.05
"""Share of the channels' mean energy below which their mean is no longer what is heard: of unrelated stereo it is a half."""
LOUD = 0.1
"""Share of an item's mean energy from which a second of it counts as loud."""
MIXES = ("mix", "left", "right", "difference")
"""How a stereo sound becomes mono."""
SAMPLE_RATES = (1_000, 655_350)
"""Lowest and highest sample rate of an AUDIO, in Hz. What is lower is no sound; FLAC holds no higher one."""
LARGEST_SAMPLE = 2.0**31
"""Of an AUDIO, which lies in -1..1, as some node may have made it of 32-bit integers. Squares of what is larger overflow."""

logger = logging.getLogger(__name__)


def recording(audio: dict | None, node: str, socket: str = "audio") -> tuple[Tensor, int]:
    """Samples (B, channels, T) of any type, and the sample rate, of an AUDIO.

    Raises ValueError naming `node`, `socket`, culprit and remedy where there is no sound in it (None, zero length), another shape or kind
    of samples, and for a rate outside SAMPLE_RATES.
    """
    if audio is None:
        raise ValueError(f"{node}: {socket} is None: the node before it found no sound, as in a video without a track. Use another file.")
    samples: Any = audio.get("waveform") if isinstance(audio, Mapping) else None
    if not isinstance(samples, Tensor):
        raise ValueError(f"{node}: {socket} is no AUDIO: it has no waveform. Load the file with LoadAudio.")
    if samples.ndim != 3 or samples.shape[0] == 0 or samples.shape[1] == 0:
        raise ValueError(
            f"{node}: {socket} has the shape {tuple(samples.shape)}; AUDIO is (batch, channels, samples). "
            "The node before it breaks ComfyUI's convention: load the file with LoadAudio instead."
        )
    if samples.shape[2] == 0:
        raise ValueError(f"{node}: {socket} has zero length ({tuple(samples.shape)}). Check the start and duration it was cut with.")
    if samples.is_complex() or samples.dtype == torch.bool:
        raise ValueError(f"{node}: {socket} has {samples.dtype} for samples; they are real numbers. Load the file with LoadAudio instead.")
    return samples, _sample_rate(audio.get("sample_rate"), node, socket)


def _sample_rate(rate: Any, node: str, socket: str) -> int:
    if isinstance(rate, Tensor) and rate.ndim == 0:
        rate = rate.item()
    (lowest, highest), number = SAMPLE_RATES, float(rate) if isinstance(rate, numbers.Real) else math.nan
    if not lowest <= number <= highest or not number.is_integer():
        raise ValueError(
            f"{node}: {socket} has the sample rate {shown(rate)}; it must be a whole number from {lowest} to {highest} Hz. "
            "Load the file with LoadAudio."
        )
    return int(number)


def waveform(audio: dict | None, node: str, socket: str = "audio") -> tuple[Tensor, int]:
    """Samples (B, channels, T) as float32 and the sample rate of an AUDIO; integers are scaled by their type's full range to -1..1.

    Raises ValueError naming `node`, `socket`, culprit and remedy as `recording` does, and for samples that are NaN or far out of -1..1.
    """
    samples, rate = recording(audio, node, socket)
    if not samples.is_floating_point():
        full_scale = torch.iinfo(samples.dtype)
        middle, half = (full_scale.max + 1 + full_scale.min) / 2, (full_scale.max + 1 - full_scale.min) / 2
        samples = (samples.double() - middle) / half
    if not finite(samples):
        count = int((~samples.isfinite()).sum())
        raise ValueError(f"{node}: {socket} holds {count} samples that are NaN or infinite. Load the recording again or render it anew.")
    peak = max(abs(float(extreme)) for extreme in samples.aminmax())
    if peak > LARGEST_SAMPLE:
        raise ValueError(f"{node}: {socket} holds samples of up to {peak:.3g}; AUDIO lies in -1..1. Bring it there in the node before.")
    return samples.float().cpu(), rate


def mono_or_stereo(audio: dict | None, node: str) -> tuple[Tensor, int]:
    """Samples (B, 1 or 2, T) float32 and the sample rate of an AUDIO; more than two channels are mixed to one.

    Raises ValueError as `waveform` does.
    """
    samples, rate = waveform(audio, node)
    return (samples if samples.shape[1] <= 2 else mixed(samples, rate, node)[:, None]), rate


def mono(audio: dict | None, node: str, mix: str = "mix", target: int = AUFFUSION.sample_rate) -> Tensor:
    """Waveform (B, T) float32 at `target` Hz on the CPU of an AUDIO of any rate, channels and sample type, mixed down as `mixed` does.

    Stops when the user cancels. Raises ValueError as `waveform` does.
    """
    samples, rate = waveform(audio, node)
    return resample(samples, rate, target, interruptible(), _mixer(samples, rate, node, mix))


def mixed(samples: Tensor, rate: int, node: str, mix: str = "mix") -> Tensor:
    """One channel (B, T) of samples (B, channels, T) at `rate` Hz; `mix` is one of MIXES.

    mix: the mean, as every player mixes down. Where channels are out of phase that loses the sound: of an item in which the mean of a loud
    second keeps less than CANCELLED of the channels' energy, the channel with the most energy is taken instead, and the log says so. left
    and right: the first and the last channel. difference: half of left less right, the sound that stereo has and mono has not.
    """
    return _mixer(samples, rate, node, mix)(samples)


def _mixer(samples: Tensor, rate: int, node: str, mix: str) -> Callable[[Tensor], Tensor]:
    """What makes one channel of the samples, or of a stretch of them."""
    if mix == "left" or samples.shape[1] == 1:
        return lambda stretch: stretch[:, 0]
    if mix == "right":
        return lambda stretch: stretch[:, -1]
    if mix == "difference":
        return lambda stretch: (stretch[:, 0] - stretch[:, -1]) / 2
    of_channels, of_mean = _energies(samples, rate)
    loud = of_channels.mean(dim=1) > LOUD * of_channels.mean(dim=(1, 2))[:, None]
    alone = {}
    for item in (loud & (of_mean < CANCELLED * of_channels.mean(dim=1))).any(dim=-1).nonzero().flatten().tolist():
        alone[item] = channel = int(of_channels[item].mean(dim=-1).argmax())
        logger.warning("%s: the channels of audio (item %d) cancel when mixed; channel %d is taken alone.", node, item, channel + 1)

    def mean(stretch: Tensor) -> Tensor:
        one = stretch.mean(dim=1)
        for item, channel in alone.items():
            one[item] = stretch[item, channel]
        return one

    return mean


def _energies(samples: Tensor, rate: int) -> tuple[Tensor, Tensor]:
    """Mean square of each second of samples (B, channels, T) but for a constant, which is no sound: of the channels and of their mean."""
    offset, look = samples.mean(dim=-1, keepdim=True), interruptible()
    seconds = samples.split(max(1, rate), dim=-1)  # the last may be shorter
    of_channels, of_mean = [], []
    for second in seconds:
        heard = second - offset
        of_channels.append(heard.square().mean(dim=-1))
        of_mean.append(heard.mean(dim=1).square().mean(dim=-1))
        look(len(of_mean), len(seconds))
    return torch.stack(of_channels, dim=-1), torch.stack(of_mean, dim=-1)
