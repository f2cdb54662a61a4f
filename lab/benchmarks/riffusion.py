"""Riffusion's pictures made audible, ours (32 and 48 iterations) against torchaudio's inverse mel scale and Griffin-Lim (32).

    OMP_NUM_THREADS=1 python -m lab.benchmarks.riffusion [--repeats 1] recording.flac ...

Each recording is cut to 5.11 s, mixed to mono at 44.1 kHz and shown as 512 x 512 pixels in Riffusion's format. The three ways get the same
mel magnitude, taken in turns; each result is encoded again and compared with the picture: correlation, mean absolute difference of the
picture's values ("picture", of 1) and of the log-mel in dB, where nothing 120 dB below the loudest point counts ("dB"). The official way's
parameters are those of its published code: n_fft 17640, window 4410, hop 441, momentum 0.99, random starting phases. Times are the median
of the repeats by the processor's clock, and taken with OMP_NUM_THREADS=1 mean something on a busy machine too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch
import torchaudio
from torch import Tensor

from itsound_core.cycle import cycle_consistency
from itsound_core.griffin_lim import griffin_lim
from itsound_core.resampling import resample
from itsound_core.spectrogram import RIFFUSION, picture_to_mel, waveform_to_picture

COLUMNS = 512
OFFICIAL_ITERATIONS = 32


def recording(path: Path) -> Tensor:
    """(1, T): the first 5.11 s, mono at 44.1 kHz; a shorter one is repeated."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono, length = torch.from_numpy(samples.mean(axis=1))[None], RIFFUSION.samples(COLUMNS)
    mono = mono if rate == RIFFUSION.sample_rate else resample(mono, rate, RIFFUSION.sample_rate)
    return mono.repeat(1, -(-length // mono.shape[1]))[:, :length]


def official() -> Callable[[Tensor], Tensor]:
    fmt = RIFFUSION
    inverse = torchaudio.transforms.InverseMelScale(
        fmt.n_fft // 2 + 1, fmt.n_mels, fmt.sample_rate, fmt.f_min, fmt.f_max, norm=None, mel_scale=fmt.mel_scale
    )
    phases = torchaudio.transforms.GriffinLim(fmt.n_fft, OFFICIAL_ITERATIONS, fmt.win_length, fmt.hop_length, power=1.0, momentum=0.99)

    def play(mel: Tensor) -> Tensor:
        torch.manual_seed(0)
        return phases(inverse(mel))

    return play


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "ours, 32": lambda mel: griffin_lim(mel, 32, fmt=RIFFUSION),
        "ours, 48": lambda mel: griffin_lim(mel, 48, fmt=RIFFUSION),
        "official, 32": official(),
    }
    names = ("correlation", "picture", "dB", "seconds")
    found: dict[str, list[tuple[float, ...]]] = {way: [] for way in ways}
    print(f"{'recording':20}{'way':14}" + "".join(f"{name:>13}" for name in names))
    for path in arguments.recordings:
        picture = waveform_to_picture(recording(path), RIFFUSION)
        taken: dict[str, list[float]] = {way: [] for way in ways}
        sounds = {}
        for _ in range(arguments.repeats):
            for way, play in ways.items():
                start = time.process_time()
                sounds[way] = play(picture_to_mel(picture, RIFFUSION))
                taken[way].append(time.process_time() - start)
        for way, sound in sounds.items():
            cycle = cycle_consistency(picture, sound, RIFFUSION)
            apart = (cycle.picture - picture).abs().mean().item()
            found[way].append((cycle.correlation.item(), apart, cycle.error_db.item(), statistics.median(taken[way])))
            print(f"{path.stem[:19]:20}{way:14}" + "".join(f"{value:13.4f}" for value in found[way][-1]), flush=True)
    for way, rows in found.items():
        print(f"{'mean':20}{way:14}" + "".join(f"{statistics.mean(column):13.4f}" for column in zip(*rows, strict=True)))
    for way in list(ways)[:-1]:
        ratios = [slow[-1] / fast[-1] for slow, fast in zip(found["official, 32"], found[way], strict=True)]
        print(f"official's time over {way}: {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
