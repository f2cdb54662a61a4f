"""A picture in recordings: by their own phase (ImprintRecording), and by a vocoder from the imprinted spectrogram (ImprintBaseline).

    OMP_NUM_THREADS=1 python -m lab.benchmarks.imprint [--rho 0.5 0.7] [--minutes 1 5] [recording.flac ...]

Every recording, as mono at 16 kHz (the repository's loop, ten seconds of noise made here, and those named on the command line), takes each
of three pictures (the repository's photo, a word in black on white, and white on black), stretched over 80 % of its length and 300 to
7000 Hz. Each result is encoded again and compared; figures are means and standard deviations over these items:

- picture: correlation, inside the picture's place, of the result's spectrogram with the picture ("recording" is that of the recording);
- change: correlation with the picture of what changed in the spectrogram: what is seen beside the recording itself;
- meant: mean difference in dB from the imprinted spectrogram, which no sound need have;
- light: mean difference in dB from the recording's spectrogram where the picture darkens less than 5 %;
- wave: signal-to-noise ratio there, in dB, of the complex spectra: how far the sound is still the recording's own wave, phase included;
- outside: signal-to-noise ratio of the waveform before and after the picture.

Times are processor seconds for a second of sound, analysis included; a ratio is a way's time over the first one's, item by item. --minutes
gives the time of the first way, and its memory beyond recording and result, on noise in stereo at 44.1 kHz.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

REPO = Path(__file__).resolve().parents[2]
from benchmarks.joint_sampling import peak_memory  # noqa: E402

from itsound_core.cycle import cycle_consistency  # noqa: E402
from itsound_core.griffin_lim import griffin_lim  # noqa: E402
from itsound_core.imprint import Area, at_frequencies, darkness, fit_to, imprint, imprint_recording  # noqa: E402
from itsound_core.resampling import resample  # noqa: E402
from itsound_core.spectrogram import (  # noqa: E402
    AUFFUSION,
    band_frequencies,
    bin_frequencies,
    normalize_peak,
    picture_to_log_mel,
    picture_to_mel,
    stft,
    waveform_to_picture,
)
from itsound_core.vocoder import load_vocoder, replace_magnitude  # noqa: E402

RATE = AUFFUSION.sample_rate
LIGHT = 0.05
MEASURES = ("picture", "change", "meant", "light", "wave", "outside")

Way = Callable[[Tensor, Tensor, float, Area], Tensor]
"""(picture (3, H, W), recording (1, T), rho, area) to the imprinted recording (1, T)."""


def recordings(paths: list[Path]) -> dict[str, Tensor]:
    """Mono recordings (1, T) at 16 kHz by name, at a peak of 0.95, of whole columns."""
    sounds = {"noise": torch.randn(1, 10 * RATE, generator=torch.Generator().manual_seed(0))}
    for path in [REPO / "workflows" / "inputs" / "loop_garzul.flac", *paths]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sounds[path.stem] = resample(torch.from_numpy(samples.mean(1))[None], rate, RATE)
    return {name: normalize_peak(sound[:, : sound.shape[1] // 160 * 160]) for name, sound in sounds.items()}


def pictures() -> dict[str, Tensor]:
    """RGB pictures (3, H, W) in 0..1 by name."""
    word = Image.new("RGB", (512, 128), "white")
    ImageDraw.Draw(word).text((256, 64), "HEAR ME", "black", ImageFont.load_default(100), "mm")
    drawn = {"photo": Image.open(REPO / "workflows" / "inputs" / "chelsea.png").convert("RGB"), "word": word}
    tensors = {name: torch.from_numpy(np.array(picture)).movedim(-1, 0) / 255 for name, picture in drawn.items()}
    return tensors | {"word, inverted": 1.0 - tensors["word"]}


def vocoded(play: Callable[[Tensor], Tensor]) -> Way:
    """The baseline: the recording's spectrogram, imprinted and played."""

    def way(image: Tensor, recording: Tensor, rho: float, area: Area) -> Tensor:
        return play(imprint(image[None], waveform_to_picture(recording), rho, "stretch", area))

    return way


def ways() -> dict[str, Way]:
    vocoder = load_vocoder(REPO / "models" / "embedded-audio" / "vocoder")
    return {
        "own phase": lambda image, recording, rho, area: imprint_recording(image, recording, RATE, rho, "stretch", area),
        "Griffin-Lim": vocoded(lambda picture: griffin_lim(picture_to_mel(picture))),
        "HiFi-GAN's phase": vocoded(lambda picture: replace_magnitude(vocoder(picture_to_log_mel(picture)), picture_to_mel(picture))),
        "HiFi-GAN": vocoded(lambda picture: vocoder(picture_to_log_mel(picture))),
    }


def signal_to_noise(signal: Tensor, result: Tensor) -> float:
    """Decibels; infinite where nothing changed, NaN where there is nothing."""
    power, noise = signal.abs().square().sum().item(), (result - signal).abs().square().sum().item()
    return 10 * math.log10(power / noise) if noise > 0 else math.inf if power > 0 else math.nan


def compare(image: Tensor, recording: Tensor, result: Tensor, rho: float, area: Area) -> dict[str, float]:
    first, last = area.span(recording.shape[1], RATE)
    columns = slice(first // AUFFUSION.hop_length, last // AUFFUSION.hop_length)
    laid = fit_to(darkness(image[None]), area.rows, columns.stop - columns.start, "stretch")
    before = waveform_to_picture(recording)
    meant = cycle_consistency(imprint(image[None], before, rho, "stretch", area), result)
    after = meant.picture
    bands = band_frequencies().flip(0)
    rows = area.contains(bands)
    dark, was, now = at_frequencies(laid, area, bands)[:, rows], before[:, rows, columns], after[:, rows, columns]
    light = at_frequencies(laid, area, bin_frequencies())
    in_light = (light < LIGHT) & area.contains(bin_frequencies())[:, None]
    heard, played = (stft(waveform)[..., columns] for waveform in (recording, result))
    outside = torch.cat([torch.arange(first), torch.arange(last, recording.shape[1])])
    return {
        "picture": correlation(now, -dark),
        "change": correlation(now - was, -dark),
        "meant": meant.error_db.item(),
        "light": 255 * AUFFUSION.decibels_per_level * (now - was).abs()[dark < LIGHT].mean().item(),
        "wave": signal_to_noise(heard[in_light], played[in_light]),
        "outside": signal_to_noise(recording[:, outside], result[:, outside]),
    }


def correlation(first: Tensor, second: Tensor) -> float:
    return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()


def spread(values: list[float], digits: int = 2) -> str:
    values = [value for value in values if not math.isnan(value)]
    if values and min(values) == math.inf:
        return "the same"
    return "-" if not values else f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def measure(rho: float, sounds: dict[str, Tensor]) -> None:
    results: dict[str, list[dict[str, float]]] = {}
    for image in pictures().values():
        for recording in sounds.values():
            seconds = recording.shape[1] / RATE
            area = Area(round(0.1 * seconds, 2), round(0.8 * seconds, 2), 300.0, 7000.0)
            results.setdefault("recording", []).append(compare(image, recording, recording, rho, area) | {"time": math.nan})
            for name, way in WAYS.items():
                began = time.process_time()
                result = way(image, recording, rho, area)
                taken = time.process_time() - began
                results.setdefault(name, []).append(compare(image, recording, result, rho, area) | {"time": taken / seconds})
    print(f"\nrho {rho}, {len(pictures())} pictures x {len(sounds)} recordings: {', '.join(sounds)}")
    print(f"{'':18}" + "".join(f"{name:>17}" for name in (*MEASURES, "s for a second", "ratio")))
    for name, rows in results.items():
        ratios = [row["time"] / first["time"] for row, first in zip(rows, results["own phase"], strict=True)]
        cells = [spread([row[measure] for row in rows]) for measure in MEASURES]
        cells += [spread([row["time"] for row in rows], 3), spread(ratios, 1)]
        print(f"{name:18}" + "".join(f"{cell:>17}" for cell in cells), flush=True)


def measure_song(minutes: float) -> None:
    rate = 44100
    song = 0.1 * torch.randn(2, round(60 * minutes * rate), generator=torch.Generator().manual_seed(0))
    with peak_memory() as peak:
        began = time.process_time()
        imprint_recording(pictures()["photo"], song, rate, fit="tile")
        taken = time.process_time() - began
    beyond = peak[0] - song.numel() * song.element_size()
    print(f"{minutes:g} minutes in stereo at {rate} Hz: {taken:.1f} s, {beyond / 2**20:.0f} MiB beyond recording and result")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--rho", type=float, nargs="*", default=[0.5])
    parser.add_argument("--minutes", type=float, nargs="*", default=[])
    options = parser.parse_args()
    WAYS = ways()
    with torch.inference_mode():
        for value in options.rho:
            measure(value, recordings(options.recordings))
        for value in options.minutes:
            measure_song(value)
