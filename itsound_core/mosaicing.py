"""A picture played by a recording: put together from the recording's own pieces, in its own phase, and as loud as the picture is.

Audio mosaicing, or concatenative synthesis: each column is played from one place of the recording, and a path through it is chosen that
weighs likeness against jumps (Hunt and Black, ICASSP 1996; Schwarz, DAFx 2000), by Viterbi's algorithm. Tensors lie on the host: a path
is found a column at a time.

>>> import torch
>>> from itsound_core.spectrogram import waveform_to_picture
>>> recording = torch.randn(1, 32000, generator=torch.Generator().manual_seed(0))
>>> picture = waveform_to_picture(recording)[0]
>>> path(picture[:, 100:160], picture, coherence=10)[:3].tolist()
[100, 101, 102]
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .frames import PIECE, Frames
from .imprint import WHOLE, at_frequencies
from .looping import crossfade
from .progress import OnStep
from .resampling import resample
from .spectrogram import (
    AUFFUSION,
    SILENCE,
    SpectrogramFormat,
    bin_frequencies,
    format_at,
    limit_peak,
    magnitude,
    mel_filters,
    mel_to_log_mel,
    picture_to_log_mel,
    waveform_to_picture,
)

BLOCK_BYTES = 2**26
"""Memory of the distances of one block of columns to all places."""
SAMPLED_COLUMNS = 128
"""Columns from which the price of a jump is found."""
JUMP = 0.25
"""Price of a jump as a share of what a stretch as long as the coherence gains from a random place to its best one."""
FADE = 0.02
"""Seconds of a cross-fade before a jump; less where two jumps are closer."""
LARGEST_GAIN = math.log(10.0 ** (30.0 / 20.0))
"""Nepers by which a frame may be made louder: more would lift what is the recording's own noise."""
ROUNDS = 4
"""Times that loudness is brought to the picture's: overlapping frames blur each other's. More gain little, and move the phase further."""
BORDER_BANDS = 16
"""Bands at the top of the picture whose mean says how loud what is higher is."""


def mosaic(
    picture: Tensor,
    recording: Tensor,
    mix: Tensor,
    rate: int,
    coherence: int,
    likeness: float = 1.0,
    on_step: OnStep | None = None,
) -> Tensor:
    """A picture (n_mels, frames) in 0..1 played by a recording (channels, T) at `rate` Hz: (channels, frames x hop at that rate).

    mix: (T,), its channels mixed to one, not silent, which is compared with the picture. coherence: columns, as in `path`; likeness: as in
    `shape`. Peaks beyond full scale are turned down as `limit_peak` does, in all channels alike.
    """
    part = 0

    def after_step(done: int, steps: int) -> None:
        if on_step:
            on_step(part * steps + done, 3 * steps)

    heard = resample(mix[None], rate, AUFFUSION.sample_rate, after_step)
    level = AUFFUSION.peak / max(float(heard.abs().amax()), SILENCE)  # at which recordings become pictures
    heard = F.pad(level * heard, (0, -heard.shape[-1] % AUFFUSION.hop_length))
    part = 1
    places = path(picture, waveform_to_picture(heard)[0], coherence, after_step)
    woven = rearrange(level * torch.cat([mix[None], recording]), rate, places)
    part = 2
    shaped = shape(woven[1:], woven[0], rate, picture, likeness, after_step)
    return limit_peak(shaped.flatten()[None])[0].view_as(shaped)


def path(picture: Tensor, recording: Tensor, coherence: int, on_step: OnStep | None = None) -> Tensor:
    """Column of the recording (n_mels, places) that each column of a picture (n_mels, frames) is played from, (frames,) int64.

    The sum of squared differences and of the prices of all jumps is the smallest there is. After the recording's last column follows its
    first, without a price. coherence: columns that shall stay together, about; the price of a jump rises with it. 0: no jumps at all. Time
    grows with frames x places; memory beside the pictures with frames + places: jumps leave from the best place alone, so that its
    beginning is all that must be kept of a column.
    """
    frames, places = picture.shape[-1], recording.shape[-1]
    power = recording.square().sum(0)

    def distances(columns: Tensor) -> Tensor:
        return torch.addmm(power, columns.mT, recording, alpha=-2.0)  # (n, places); |column|^2 is the same for all places

    price = _jump_price(picture, distances, coherence) if coherence else math.inf
    cost, beginning = torch.zeros(places), torch.zeros(places, dtype=torch.int64)
    best, best_beginning = (torch.empty(frames, dtype=torch.int64) for _ in range(2))
    step = max(1, BLOCK_BYTES // (4 * places))
    for first in range(0, frames, step):
        for column, distance in enumerate(distances(picture[:, first : first + step]), first):
            cost, beginning = cost.roll(1), beginning.roll(1)
            jumped = cost > price  # the cheapest place, from which jumps leave, costs 0
            cost = cost.clamp(max=price).add_(distance)
            beginning[jumped] = column
            at = cost.argmin()
            best[column], best_beginning[column] = at, beginning[at]
            cost -= cost[at].clone()
        if on_step:
            on_step(min(first + step, frames), frames)
    chosen, end = torch.empty(frames, dtype=torch.int64), frames
    while end:
        start = int(best_beginning[end - 1])
        chosen[start:end] = (best[end - 1] - torch.arange(end - start - 1, -1, -1)) % places
        end = start
    return chosen


def _jump_price(picture: Tensor, distances: Callable[[Tensor], Tensor], coherence: int) -> float:
    some = torch.linspace(0, picture.shape[-1] - 1, min(SAMPLED_COLUMNS, picture.shape[-1])).long()
    sampled = distances(picture[:, some])
    return JUMP * coherence * float((sampled.mean(-1) - sampled.amin(-1)).mean())


def rearrange(waveform: Tensor, rate: int, places: Tensor) -> Tensor:
    """A recording (channels, T) at `rate` Hz in the order of `places` (frames,), its columns: (channels, frames x hop at that rate).

    Before a jump (an attack may lie in it) the new piece is faded in, moved by up to a column so that the first channel's waves meet. What
    is read beyond the recording's end is its beginning.
    """
    hop = AUFFUSION.seconds(1) * rate
    frames = len(places)
    starts = [0, *(torch.nonzero(places[1:] != places[:-1] + 1).flatten() + 1).tolist()]
    result = waveform.new_empty(len(waveform), round(frames * hop))
    source = last = 0
    for start, following in itertools.pairwise([*starts, frames]):
        begin, end, place = round(start * hop), round(following * hop), round(int(places[start]) * hop)
        fade = min(round(FADE * rate), begin - last)
        if fade:
            before = _read(waveform, source - fade, fade)
            source = _meeting(waveform[0], before[0], place - fade, round(hop)) + fade
            result[:, begin - fade : begin] = crossfade(before, _read(waveform, source - fade, fade))
        else:
            source = place
        result[:, begin:end] = _read(waveform, source, end - begin)
        source, last = source + end - begin, begin
    return result


def _read(waveform: Tensor, start: int, count: int) -> Tensor:
    """`count` samples from `start` on, around and around."""
    return waveform[:, torch.arange(start, start + count) % waveform.shape[-1]]


def _meeting(channel: Tensor, before: Tensor, start: int, most: int) -> int:
    """The start, at most `most` samples away, from which a channel (T,) is most like `before` (n,): by normalised correlation."""
    count = len(before)
    around = channel[torch.arange(start - most, start + most + count) % len(channel)]
    products = F.conv1d(around[None, None], before[None, None])[0, 0]
    energies = F.pad(around.double().square().cumsum(0), (1, 0))
    energies = (energies[count:] - energies[:-count]).clamp(min=1e-12).sqrt().to(products)
    likeness = products / energies
    likeness[most] += 1e-6 * float(likeness.abs().amax()) + 1e-12  # where all are alike, as in silence, it stays
    return start - most + int(likeness.argmax())


def shape(waveform: Tensor, mix: Tensor, rate: int, picture: Tensor, likeness: float = 1.0, on_step: OnStep | None = None) -> Tensor:
    """A sound (channels, T) at `rate` Hz made as loud as a picture (n_mels, frames) is, in its own phase: (channels, T).

    Each channel's short-time spectrum is multiplied by what the mel bands of the mix (T,) lack of the picture's, so that channels keep
    their proportions; likeness, 0..1, is the exponent: 0 changes nothing. Frequencies beyond 8 kHz follow the bands below, and are not made
    louder. Done ROUNDS times, as frames overlap: phases give way a little where neighbouring frames cannot agree otherwise. It goes in
    pieces of PIECE frames; beside picture and waveforms it needs a picture of what is meant.
    """
    hop = AUFFUSION.seconds(1) * rate
    fmt, length = replace(format_at(rate), hop_length=math.ceil(hop)), mix.shape[-1]  # a frame a column, at most rates
    frames = Frames(fmt, fmt.padding, fmt.padding + length, length + 2 * fmt.padding)
    pieces = frames.reaching_in().split(PIECE)
    filters = mel_filters(fmt)[: AUFFUSION.n_mels] * (AUFFUSION.win_length / fmt.win_length)
    meant: list[Tensor] = []
    sounds = torch.cat([mix[None], waveform]) if len(waveform) > 1 else waveform
    for done in range(ROUNDS):
        before = F.pad(sounds[None], (fmt.padding, fmt.padding), mode="reflect")[0]
        after = torch.zeros_like(before)
        for index, piece in enumerate(pieces):
            spectra = [frames.analyse(channel, piece) for channel in before]
            heard = mel_to_log_mel(filters @ magnitude(spectra[0]))[0]
            if done == 0:
                shown = picture_to_log_mel(_columns(picture, piece * (fmt.hop_length / hop)))
                shown = shown[: len(heard)]  # of a recording below 16 kHz, the bands that it holds
                meant.append(heard + likeness * (shown - heard).clamp(max=LARGEST_GAIN))
            gain = _at_bins(meant[index] - heard, fmt).clamp(max=LARGEST_GAIN).exp()
            for channel, spectrum in zip(after, spectra, strict=True):
                frames.add(channel, piece, spectrum * gain)
            if on_step:
                on_step(done * len(pieces) + index + 1, ROUNDS * len(pieces))
        sounds = after[:, fmt.padding : -fmt.padding]
    return sounds[-len(waveform) :]


def _columns(picture: Tensor, at: Tensor) -> Tensor:
    """A picture (n_mels, frames) at fractional columns (N,), linearly interpolated and reflected at its ends: (n_mels, N)."""
    last = picture.shape[-1] - 1
    at = (last - (last - at.abs()).abs()).clamp(0, last)
    left = at.long()
    return torch.lerp(picture[:, left], picture[:, (left + 1).clamp(max=last)], (at - left).to(picture))


def _at_bins(gain: Tensor, fmt: SpectrogramFormat) -> Tensor:
    """Gains (n_mels or fewer, N) in nepers, low frequencies in row 0, at each bin (bins, N)."""
    frequencies = bin_frequencies(fmt)
    gain = torch.cat([gain, gain[-1:].expand(AUFFUSION.n_mels - len(gain), -1)])
    laid = at_frequencies(gain.flip(0)[None], WHOLE, frequencies)[0]
    laid[frequencies > AUFFUSION.f_max] = gain[-BORDER_BANDS:].mean(0).clamp(max=0.0)
    return laid
