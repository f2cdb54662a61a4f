"""Griffin-Lim from mel, ours (32 and 48 iterations) against librosa's mel_to_stft + griffinlim (32): the same pictures, taken in turns.

    OMP_NUM_THREADS=2 python -m lab.benchmarks.griffin_lim [--repeats 3] [recording.wav ...]

Five inputs of 10.24 s are made here (notes, noise, a sweep, clicks, a drawing); recordings named on the command line join them. Each result
is encoded again and compared with the picture it was made from: mean absolute log-mel difference in dB over the whole picture ("all") and
where the picture is within 60 dB of its loudest point ("loud"), correlation of the pictures, and relative error of the mel magnitude
(spectral convergence). Times are the median of the repeats and their range, by the wall clock and by the processor; on a machine that
does other work at the same time only the processor's, taken with OMP_NUM_THREADS=1, mean anything.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import torch
import torch.nn.functional as F
from torch import Tensor

from itsound_core.cycle import cycle_consistency  # noqa: E402
from itsound_core.griffin_lim import griffin_lim  # noqa: E402
from itsound_core.spectrogram import AUFFUSION, normalize_peak, picture_to_mel, waveform_to_mel, waveform_to_picture  # noqa: E402

SECONDS = 10.24
LIBROSA_ITERATIONS = 32
LOUD_DB = 60.0


def notes(t: Tensor) -> Tensor:
    """A run of five plucked notes with eleven harmonics each."""
    sound = torch.zeros_like(t)
    for start, pitch in zip((0, 2, 4, 6, 8), (220.0, 277.2, 329.6, 440.0, 110.0), strict=True):
        age = (t - start).clamp(min=0)
        for harmonic in range(1, 12):
            sound += torch.sin(2 * torch.pi * pitch * harmonic * age) / harmonic * torch.exp(-age * (1 + 0.3 * harmonic))
    return sound


def noise(t: Tensor) -> Tensor:
    """White noise that swells and fades."""
    return torch.randn(t.shape, generator=torch.Generator().manual_seed(0)) * torch.sin(torch.pi * 0.7 * t).square()


def sweep(t: Tensor) -> Tensor:
    """A logarithmic sweep from 60 Hz to 7.5 kHz."""
    rate = torch.log(torch.tensor(7500.0 / 60.0)).double() / SECONDS
    return torch.sin(2 * torch.pi * 60.0 / rate * torch.expm1(rate * t.double())).float()


def clicks(t: Tensor) -> Tensor:
    """A click every 0.75 s over quiet noise."""
    sound = 1e-3 * torch.randn(t.shape, generator=torch.Generator().manual_seed(0))
    sound[8000::12000] = 1.0
    return sound


def drawing() -> Tensor:
    """Picture (1, 256, 1024) of a ring, a slab and a thin line, on black."""
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(1024.0), indexing="ij")
    radius = torch.hypot(x - 300, y - 128)
    picture = 0.75 * ((radius > 70) & (radius < 90)) + 0.6 * ((abs(x - 700) < 120) & (y > 100) & (y < 220)) + 0.7 * (abs(y - 40) < 4)
    return picture.clamp(max=0.75)[None]


def pictures(recordings: list[Path]) -> dict[str, Tensor]:
    t = torch.arange(round(SECONDS * AUFFUSION.sample_rate)) / AUFFUSION.sample_rate
    sounds = {make.__name__: make(t) for make in (notes, noise, sweep, clicks)}
    for path in recordings:
        sounds[path.stem] = torch.from_numpy(librosa.load(path, sr=AUFFUSION.sample_rate, duration=SECONDS)[0])
    return {name: waveform_to_picture(normalize_peak(sound[None])) for name, sound in sounds.items()} | {"drawing": drawing()}


def librosa_griffin_lim(mel: Tensor) -> Tensor:
    fmt = AUFFUSION
    magnitude = librosa.feature.inverse.mel_to_stft(
        mel[0].numpy(), sr=fmt.sample_rate, n_fft=fmt.n_fft, power=1.0, fmin=fmt.f_min, fmax=fmt.f_max
    )
    waveform = librosa.griffinlim(
        magnitude, n_iter=LIBROSA_ITERATIONS, hop_length=fmt.hop_length, win_length=fmt.win_length, n_fft=fmt.n_fft, random_state=0
    )
    # librosa's frames are centred on multiples of the hop, ours half a hop later.
    return F.pad(torch.from_numpy(waveform).float(), (fmt.hop_length // 2, fmt.hop_length // 2))[None]


def closeness(picture: Tensor, waveform: Tensor) -> tuple[float, float, float, float]:
    """(dB over all, dB where loud, correlation, spectral convergence) of a waveform encoded again."""
    cycle = cycle_consistency(picture, waveform)
    decibels_per_unit = 255 * AUFFUSION.decibels_per_level
    loud = picture > picture.max() - LOUD_DB / decibels_per_unit
    mel = picture_to_mel(picture)
    return (
        cycle.error_db.item(),
        (cycle.picture - picture).abs()[loud].mean().item() * decibels_per_unit,
        cycle.correlation.item(),
        ((waveform_to_mel(waveform) - mel).norm() / mel.norm()).item(),
    )


def spread(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    methods: dict[str, Callable[[Tensor], Tensor]] = {
        "ours, 32": lambda mel: griffin_lim(mel, 32),
        "ours, 48": lambda mel: griffin_lim(mel, 48),
        "librosa": librosa_griffin_lim,
    }
    for method in methods.values():  # librosa compiles on its first call
        method(torch.rand(1, 256, 16))

    print(f"{'input':16}{'method':10}{'dB all':>8}{'dB loud':>9}{'correl.':>9}{'converg.':>10}{'wall s':>22}{'processor s':>22}")
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    taken: dict[tuple[str, str], list[float]] = {(method, clock): [] for method in methods for clock in clocks}
    for name, picture in pictures(arguments.recordings).items():
        waveforms = {}
        for _ in range(arguments.repeats):
            for method, invert in methods.items():
                start = {clock: now() for clock, now in clocks.items()}
                waveforms[method] = invert(picture_to_mel(picture))
                for clock, now in clocks.items():
                    taken[method, clock].append(now() - start[clock])
        for method in methods:
            everywhere, loud, correlation, convergence = closeness(picture, waveforms[method])
            times = "".join(f"{spread(taken[method, clock][-arguments.repeats :], 's'):>22}" for clock in clocks)
            print(f"{name[:15]:16}{method:10}{everywhere:8.2f}{loud:9.2f}{correlation:9.4f}{convergence:10.4f}{times}", flush=True)
    for method in list(methods)[:-1]:
        for clock in clocks:
            ratios = [slow / fast for slow, fast in zip(taken["librosa", clock], taken[method, clock], strict=True)]
            print(f"librosa's time over {method}, {clock}: {spread(ratios, 'x')}")


if __name__ == "__main__":
    main()
