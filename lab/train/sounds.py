"""Build the labelled sound clips that the embedded models hear: 14 classes, 10.24 s at 16 kHz, with their spectrogram pictures.

    pip install --no-deps tinysoundfont soundfile
    python -m lab.train.fetch --only apt
    python -m lab.train.sounds [--data data] [--train 250] [--dev 20] [--heldout 40]

Instruments play short random scores through the FluidR3 soundfonts; effects and recordings are placed along the clip. A clip is a
pure function of (seed, split, class, index), so any build of the same arguments gives the same bits; a split that is complete is not
built again. Every source's licence is read from its own file and anything but MIT, CC0 and CC-BY is refused.

Writes `<data>/sounds/{train,dev,heldout}.npy` (uint8 pictures, N x 256 x 1024), `..._waves.npy` (int16, N x 163840) and `....json`
(class, source and seed of each clip), where clip i is of class i mod 14; and the attribution, `models/embedded-audio/NOTICE.md`.
The development split shares the training sources with other seeds; the held-out split has sources of its own, except for the classes in
SINGLE_SOURCE, where only the seeds differ. `pairs.npy` and `.json` are two clips of the training split at once, for prompts of two things.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
import tinysoundfont
import torch
from scipy.signal import fftconvolve, lfilter, resample_poly

from .prompts import PLUS

REPOSITORY = Path(__file__).resolve().parents[2]

from itsound_core.spectrogram import AUFFUSION, normalize_peak, waveform_to_picture  # noqa: E402

RATE = AUFFUSION.sample_rate
FRAMES = 1024
SAMPLES = FRAMES * AUFFUSION.hop_length
SECONDS = SAMPLES / RATE
OVERSAMPLING = 2  # the synthesiser interpolates linearly: render above the target rate, then filter down

SPDX = {
    "MIT license": "MIT",
    "CC0": "CC0-1.0",
    "Creative Commons Zero 1.0": "CC0-1.0",
    "CC-BY 3.0 Unported": "CC-BY-3.0",
    "Creative Commons Attribution 3.0 Unported": "CC-BY-3.0",
}


@dataclass(frozen=True)
class Preset:
    """One preset of a FluidR3 soundfont; percussion kits have bank 128."""

    font: str
    bank: int
    program: int

    def __str__(self) -> str:
        return f"FluidR3_{self.font}:{self.bank}:{self.program}"


@dataclass(frozen=True)
class Recordings:
    """Recordings of one package, used together: sonic-pi sample names, OpenSFX catalogue numbers or a glob of guitar strums."""

    package: str
    names: tuple[str | int, ...]

    def __str__(self) -> str:
        return f"{self.package}:{','.join(map(str, self.names))}"


@dataclass(frozen=True)
class Recording:
    """A decoded recording (mono at RATE, trimmed of silence) with its attribution."""

    wave: np.ndarray
    title: str
    author: str
    licence: str


Source = Preset | Recordings


def gm(*programs: int, bank: int = 0) -> list[Source]:
    return [Preset("GM", bank, program) for program in programs]


def gs(bank: int, program: int) -> list[Source]:
    return [Preset("GS", bank, program)]


def opensfx(*numbers: int) -> list[Source]:
    return [Recordings("openttd-opensfx", (number,)) for number in numbers]


def sonic_pi(*names: str) -> list[Source]:
    return [Recordings("sonic-pi-samples", (name,)) for name in names]


def strums(pattern: str) -> list[Source]:
    return [Recordings("hydrogen-drumkits-effects", (pattern,))]


TRAINING: dict[str, list[Source]] = {
    "bell": gm(14) + gm(14, bank=8),
    "guitar": gm(24, 25) + strums("[A-D]*major_*.flac"),
    "violin": gm(40),
    "trumpet": gm(56),
    "xylophone": gm(13),
    "drums": gm(0, 8, 16, 32, bank=128),
    "bird": gm(123) + gs(3, 123),
    "dog": gs(1, 123),
    "applause": gm(126),
    "explosion": gm(127) + gs(3, 127),
    "engine": gs(1, 125) + gs(3, 125) + opensfx(25, 28),
    "flute": gm(73),
    "piano": gm(0, 1),
    "organ": gm(19),
}
HELD_OUT: dict[str, list[Source]] = {
    "bell": sonic_pi("perc_bell") + opensfx(14),
    "guitar": gm(25, bank=8) + strums("[E-G]*minor_*.flac"),
    "violin": gm(41, 110),
    "trumpet": gm(61),
    "xylophone": gm(12),
    "drums": sonic_pi("loop_amen", "loop_breakbeat"),
    "bird": opensfx(66, 72),
    "dog": gs(1, 123),
    "applause": opensfx(29),
    "explosion": opensfx(18) + sonic_pi("misc_cineboom"),
    "engine": opensfx(27, 69),
    "flute": gm(72, 75),
    "piano": gm(3),
    "organ": gm(20),
}
SINGLE_SOURCE = {"dog"}
HELD_OUT_HEADING = f"Held out, never trained on ({', '.join(sorted(SINGLE_SOURCE))}: the same source, other seeds)"
CLASSES = tuple(TRAINING)
SPLITS = {"train": TRAINING, "dev": TRAINING, "heldout": HELD_OUT}


def licence(text: str, where: str) -> str:
    """SPDX name of a licence text. Raises ValueError for anything that is not on the list of permissive ones."""
    if text not in SPDX:
        allowed = ", ".join(sorted(set(SPDX.values())))
        raise ValueError(f"{where} is under {text!r}; only {allowed} may be trained on. Take it off the list of sources.")
    return SPDX[text]


# --- Sources -----------------------------------------------------------------------------------------------------------------------


@cache
def synthesizer(packages: Path, font: str) -> tuple[tinysoundfont.Synth, int]:
    package = packages / f"fluid-soundfont-{font.lower()}"
    readme = (package / f"usr/share/doc/{package.name}/README").read_text(encoding="latin-1")
    released = re.search(r"release Fluid under the (MIT license)", readme)
    licence(released[1] if released else "an unknown licence", str(package))
    synth = tinysoundfont.Synth(gain=-12, samplerate=RATE * OVERSAMPLING)
    return synth, synth.sfload(str(package / f"usr/share/sounds/sf2/FluidR3_{font}.sf2"))


def decode(data: bytes | Path) -> np.ndarray:
    """Mono waveform at RATE, float32, without the silence (below -50 dB of the peak) at its ends."""
    wave, rate = soundfile.read(io.BytesIO(data) if isinstance(data, bytes) else data, dtype="float32", always_2d=True)
    common = gcd(RATE, rate)
    wave = resample_poly(wave.mean(axis=1), RATE // common, rate // common).astype(np.float32)
    audible = np.flatnonzero(np.abs(wave) > 10 ** (-50 / 20) * np.abs(wave).max())
    return wave[audible[0] : audible[-1] + 1]


@cache
def recordings(packages: Path, source: Recordings) -> list[Recording]:
    """The recordings of a source, each with the licence its own package states for it. Raises ValueError if one is not permissive."""
    reader = {"sonic-pi-samples": sonic_pi_sample, "openttd-opensfx": opensfx_sound, "hydrogen-drumkits-effects": guitar_strums}[
        source.package
    ]
    return [recording for name in source.names for recording in reader(packages / source.package, name)]


def sonic_pi_sample(package: Path, name: str) -> list[Recording]:
    stanzas = (package / "usr/share/doc/sonic-pi-samples/copyright").read_text(encoding="utf-8")
    stated = re.search(rf"Files: etc/samples/{name}\.flac\nCopyright: \d* ?(.+)\n(?:Source: .+\n)?License: (.+)\n", stanzas)
    author, text = stated.groups() if stated else ("", "no licence of its own")
    path = package / f"usr/share/sonic-pi/samples/{name}.flac"
    return [Recording(decode(path), path.name, author, licence(text, path.name))]


def opensfx_sound(package: Path, number: int) -> list[Recording]:
    """A sound of OpenTTD's catalogue: a table of (offset, size), then for each a name with its licence, and a RIFF file."""
    catalogue = (package / "usr/share/games/openttd/baseset/opensfx/opensfx.cat").read_bytes()
    offset, size = struct.unpack_from("<II", catalogue, 8 * number)
    offset &= 0x7FFFFFFF
    tag = catalogue[offset + 1 : offset + 1 + catalogue[offset]].split(b"\0")[0].decode("latin-1")
    start = catalogue.index(b"RIFF", offset)
    credit, _, text = tag.partition(" License: ")
    title, _, author = credit.partition(". ")
    spdx = licence(text.rstrip("."), f"OpenSFX sound {tag}")
    return [Recording(decode(catalogue[start : start + size]), f"OpenSFX {number} {title}", author.rstrip(".").removeprefix("By "), spdx)]


def guitar_strums(package: Path, pattern: str) -> list[Recording]:
    kit = package / "usr/share/hydrogen/data/drumkits/belofilms_GuitarStrums"
    description = (kit / "drumkit.xml").read_text(encoding="utf-8")
    stated = re.search(r"<license>(.+)</license>", description)
    spdx = licence(stated[1] if stated else "an unknown licence", str(kit))
    return [Recording(decode(path), path.name, "Gabriel Verdugo Soto (belofilms.com)", spdx) for path in sorted(kit.glob(pattern))]


# --- Scores: (start in s, key, velocity, duration in s) -----------------------------------------------------------------------------

Note = tuple[float, int, int, float]
Random = np.random.Generator
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))


def scale(rng: Random, lowest: int, highest: int) -> list[int]:
    root, steps = rng.integers(12), SCALES[rng.integers(len(SCALES))]
    return [key for key in range(lowest, highest + 1) if (key - root) % 12 in steps]


def melody(
    rng: Random, lowest: int, highest: int, beat: tuple[float, float], lengths: tuple[int, ...] = (1, 1, 2, 3), rest: float = 0.12
) -> list[Note]:
    keys, step, time, notes = scale(rng, lowest, highest), rng.uniform(*beat), rng.uniform(0.0, 0.5), []
    place = rng.integers(len(keys))
    while time < SECONDS:
        place = int(np.clip(place + rng.integers(-3, 4), 0, len(keys) - 1))
        length = step * rng.choice(lengths)
        notes.append((time, keys[place], int(rng.integers(85, 120)), 0.93 * length))
        time += length + (rng.random() < rest) * 2 * step
    return notes


def chords(rng: Random, lowest: int, highest: int, beat: tuple[float, float], voices: int, strum: float = 0.0) -> list[Note]:
    keys, step, time, notes = scale(rng, lowest, highest), rng.uniform(*beat), rng.uniform(0.0, 0.5), []
    while time < SECONDS:
        root, length = rng.integers(max(1, len(keys) - 2 * voices)), step * rng.choice((1, 2))
        chord = keys[root : root + 2 * voices : 2]
        notes += [(time + strum * i, key, int(rng.integers(85, 115)), 0.93 * length) for i, key in enumerate(chord)]
        time += length
    return notes


def arpeggios(rng: Random, lowest: int, highest: int, beat: tuple[float, float]) -> list[Note]:
    keys, step, time, notes = scale(rng, lowest, highest), rng.uniform(*beat), rng.uniform(0.0, 0.5), []
    while time < SECONDS:
        root = rng.integers(max(1, len(keys) - 7))
        for offset in (0, 2, 4, 6, 4, 2):
            notes.append((time, keys[min(root + offset, len(keys) - 1)], int(rng.integers(85, 115)), 1.6 * step))
            time += step
    return notes


def tolling(rng: Random, lowest: int, highest: int, beat: tuple[float, float]) -> list[Note]:
    """Steady strikes of one to three bells, each left to ring."""
    keys, step = scale(rng, lowest, highest), rng.uniform(*beat)
    bells = rng.choice(keys, size=rng.choice((1, 1, 2, 3)))
    starts = np.arange(rng.uniform(0.05, 0.6), SECONDS, step)
    return [(float(start), int(bells[i % len(bells)]), int(rng.integers(95, 120)), 6.0) for i, start in enumerate(starts)]


def beat_pattern(rng: Random) -> list[Note]:
    step, slots = rng.uniform(0.1, 0.17), np.arange(16)
    kick, snare = (slots % 8 == 0) | (rng.random(16) < 0.12), slots % 8 == 4
    hat, tom = slots % rng.choice((2, 4)) == 0, rng.random(16) < 0.1
    parts = {36: kick, 38: snare, 42: hat, int(rng.choice((45, 47, 50))): tom}
    times = np.arange(rng.uniform(0.0, 0.4), SECONDS, step)
    return [(float(t), key, int(rng.integers(85, 120)), 0.2) for i, t in enumerate(times) for key, part in parts.items() if part[i % 16]]


def calls(
    rng: Random, spread: int, gap: tuple[float, float], burst: tuple[int, ...], pause: tuple[float, float], length: float
) -> list[Note]:
    """Bursts of one effect: `burst` calls `gap` seconds apart, then a `pause`."""
    key, time, notes = 60 + int(rng.integers(-spread, spread + 1)), rng.uniform(0.05, 0.6), []
    while time < SECONDS - 0.3:
        spacing = rng.uniform(*gap)
        for _ in range(rng.choice(burst)):
            notes.append((time, key + int(rng.integers(-1, 2)), int(rng.integers(95, 120)), length))
            time += spacing
        time += rng.uniform(*pause)
    return notes


def drone(rng: Random, spread: int) -> list[Note]:
    return [(0.0, 60 + int(rng.integers(-spread, spread + 1)), 110, SECONDS)]


SCORES: dict[str, list[Callable[[Random], list[Note]]]] = {
    "bell": [lambda rng: tolling(rng, 48, 74, (0.9, 2.4))],
    "guitar": [
        lambda rng: chords(rng, 42, 69, (0.45, 0.8), 4, strum=0.02),
        lambda rng: arpeggios(rng, 42, 72, (0.16, 0.3)),
        lambda rng: melody(rng, 48, 74, (0.2, 0.4)),
    ],
    "violin": [lambda rng: melody(rng, 58, 84, (0.3, 0.7))],
    "trumpet": [lambda rng: melody(rng, 57, 79, (0.18, 0.4), rest=0.25)],
    "xylophone": [lambda rng: melody(rng, 64, 90, (0.14, 0.28), lengths=(1, 1, 1, 2)), lambda rng: arpeggios(rng, 64, 90, (0.12, 0.22))],
    "drums": [beat_pattern],
    "bird": [lambda rng: calls(rng, 5, (0.5, 1.1), (1, 2, 3), (0.2, 0.8), 1.2)],
    "dog": [lambda rng: calls(rng, 5, (0.35, 0.6), (1, 2, 3), (0.3, 1.2), 1.0)],
    "applause": [lambda rng: drone(rng, 4)],
    "explosion": [lambda rng: calls(rng, 5, (1.4, 2.6), (1,), (0.2, 1.0), 2.5)],
    "engine": [lambda rng: drone(rng, 6), lambda rng: calls(rng, 6, (2.0, 3.5), (1,), (0.0, 0.6), 2.5)],
    "flute": [lambda rng: melody(rng, 67, 93, (0.2, 0.5))],
    "piano": [
        lambda rng: chords(rng, 43, 76, (0.4, 0.9), 3),
        lambda rng: melody(rng, 52, 88, (0.2, 0.4)),
        lambda rng: arpeggios(rng, 45, 84, (0.16, 0.3)),
    ],
    "organ": [lambda rng: chords(rng, 40, 76, (0.8, 1.6), 3), lambda rng: chords(rng, 48, 80, (0.6, 1.2), 2)],
}
# Seconds from one placed recording to the next; a longer one is cut and faded, others follow end to end.
SPACING = {"guitar": (0.7, 1.6), "bell": (1.2, 2.6), "bird": (1.5, 4.0), "explosion": (2.0, 4.0)}


# --- Clips -------------------------------------------------------------------------------------------------------------------------


def play(soundfont: tuple[tinysoundfont.Synth, int], preset: Preset, notes: list[Note]) -> np.ndarray:
    """Render a score with a synthesiser and the number of the soundfont in it: SAMPLES long, float32."""
    synth, font = soundfont
    drums = preset.bank == 128
    synth.program_select(0, font, 0 if drums else preset.bank, preset.program, drums)
    strikes = [(start, 1, key, velocity) for start, key, velocity, _ in notes]
    events = sorted(strikes + [(start + length, 0, key, 0) for start, key, _, length in notes])
    rate, position, pieces = RATE * OVERSAMPLING, 0, []
    for time, on, key, velocity in [*events, (SECONDS, 0, 0, 0)]:
        target = min(round(time * rate), SAMPLES * OVERSAMPLING)
        if target > position:
            pieces.append(np.frombuffer(bytes(synth.generate(target - position)), np.float32))
            position = target
        if on:
            synth.noteon(0, key, velocity)
        else:
            synth.noteoff(0, key)
    synth.sounds_off()
    synth.generate(rate // 2)  # voices fade out; what is left would sound in the next clip
    stereo = np.concatenate(pieces).reshape(-1, 2)
    return resample_poly(stereo.mean(axis=1), 1, OVERSAMPLING).astype(np.float32)


def place(takes: list[Recording], spacing: tuple[float, float] | None, rng: Random) -> np.ndarray:
    """Lay takes along a clip, each in its own pitch within two semitones."""
    clip, time = np.zeros(SAMPLES, np.float32), round(rng.uniform(0.0, 0.4) * RATE)
    while time < SAMPLES - RATE // 4:
        wave = takes[rng.integers(len(takes))].wave
        ratio = 2 ** (rng.uniform(-2, 2) / 12)
        wave = np.interp(np.arange(0, len(wave) - 1, ratio), np.arange(len(wave)), wave)
        length = min(len(wave), SAMPLES - time)
        step = round(rng.uniform(*spacing) * RATE) if spacing else length + round(rng.uniform(0.0, 0.4) * RATE)
        length = min(length, step)
        fade = min(RATE // 20, length // 2)
        wave = wave[:length]
        wave[length - fade :] *= np.linspace(1, 0, fade)
        clip[time : time + length] = wave * rng.uniform(0.7, 1.0) / np.abs(wave).max()
        time += step
    return clip


def swell(rng: Random) -> np.ndarray:
    """Slow envelope of a sustained sound, -45 to 0 dB, SAMPLES long: it comes and goes, so that its picture has a shape."""
    knots = np.arange(0, SECONDS + 2.0, rng.uniform(0.8, 2.0))
    levels = np.where(rng.random(len(knots)) < 0.35, rng.uniform(-45, -25), rng.uniform(-10, 0, len(knots)))
    return 10 ** (np.interp(np.arange(SAMPLES) / RATE, knots, levels) / 20)


def room(wave: np.ndarray, rng: Random) -> np.ndarray:
    """Short synthetic reverberation."""
    length = round(rng.uniform(0.15, 0.5) * RATE)
    impulse = rng.normal(size=length) * np.exp(-np.linspace(0, 7, length))
    return wave + rng.uniform(0.05, 0.15) * fftconvolve(wave, impulse / np.sqrt(np.square(impulse).sum()))[: len(wave)]


def tilt(wave: np.ndarray, rng: Random) -> np.ndarray:
    """First-order shelf around 1 kHz: the lows up or down by at most 6 dB."""
    pole = np.exp(-2 * np.pi * 1000 / RATE)
    return wave + (10 ** (rng.uniform(-6, 6) / 20) - 1) * np.asarray(lfilter([1 - pole], [1, -pole], wave))


def make_clip(packages: Path, label: str, source: Source, rng: Random) -> np.ndarray:
    """A finished clip, float32 (SAMPLES,), peak 0.95."""
    if isinstance(source, Preset):
        scores = SCORES[label]
        wave = play(synthesizer(packages, source.font), source, scores[rng.integers(len(scores))](rng))
    else:
        wave = place(recordings(packages, source), SPACING.get(label), rng)
    return finish(label, wave, rng)


def finish(label: str, wave: np.ndarray, rng: Random) -> np.ndarray:
    """Envelope, room and colour at random, then a peak of 0.95."""
    if label in ("applause", "engine") and rng.random() < 0.8:
        wave = wave * swell(rng)
    if rng.random() < 0.25:
        wave = room(wave, rng)
    wave = tilt(wave, rng)
    return normalize_peak(torch.from_numpy(wave.astype(np.float32))[None])[0].numpy()


def build(data: Path, split: str, per_class: int, seed: int) -> None:
    folder, packages = data / "sounds", data / "packages"
    manifest = folder / f"{split}.json"
    if manifest.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    count = per_class * len(CLASSES)
    pictures = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.uint8, (count, AUFFUSION.n_mels, FRAMES))
    waves = np.lib.format.open_memmap(folder / f"{split}_waves.npy", "w+", np.int16, (count, SAMPLES))
    entries = []
    for i in range(count):
        label, index = CLASSES[i % len(CLASSES)], i // len(CLASSES)
        sources = SPLITS[split][label]
        source, clip_seed = sources[index % len(sources)], (seed, list(SPLITS).index(split), i % len(CLASSES), index)
        wave = make_clip(packages, label, source, np.random.default_rng(clip_seed))
        pictures[i] = (waveform_to_picture(torch.from_numpy(wave)[None])[0] * 255).round().to(torch.uint8).numpy()
        waves[i] = np.round(wave * 32767)
        entries.append({"class": label, "source": str(source), "seed": clip_seed})
        if i % 500 == 499:
            print(f"{split} {i + 1}/{count}", flush=True)
    manifest.write_text(json.dumps(entries, indent=0) + "\n")


def build_pairs(data: Path, each: int, seed: int) -> None:
    """Mixes of two training clips of different classes at like loudness, `each` times every pair of classes."""
    folder = data / "sounds"
    manifest = folder / "pairs.json"
    if manifest.exists():
        return
    rng = np.random.default_rng((seed, len(SPLITS)))
    waves = np.load(folder / "train_waves.npy", mmap_mode="r")
    labels = list(combinations(CLASSES, 2)) * each
    pictures = np.lib.format.open_memmap(folder / "pairs.npy", "w+", np.uint8, (len(labels), AUFFUSION.n_mels, FRAMES))
    entries = []
    for i, pair in enumerate(labels):
        clips = [int(rng.integers(len(waves) // len(CLASSES))) * len(CLASSES) + CLASSES.index(label) for label in pair]
        wave = np.zeros(SAMPLES, np.float32)
        for clip in clips:
            part = waves[clip].astype(np.float32)
            wave += part / np.sqrt(np.square(part).mean()) * 10 ** (rng.uniform(-3, 3) / 20)
        picture = waveform_to_picture(normalize_peak(torch.from_numpy(wave)[None]))[0]
        pictures[i] = (picture * 255).round().to(torch.uint8).numpy()
        entries.append({"class": PLUS.join(pair), "clips": clips})
    pictures.flush()
    manifest.write_text(json.dumps(entries, indent=0) + "\n")


def write_notice(packages: Path, target: Path) -> None:
    lines = [
        "# Sources of the embedded sounds",
        "",
        "Written by `lab/train/sounds.py`. Recordings were resampled, cut, re-pitched and placed.",
    ]
    for heading, split in (("Trained on", TRAINING), (HELD_OUT_HEADING, HELD_OUT)):
        sources = [source for group in split.values() for source in group]
        programs = ", ".join(str(source).removeprefix("FluidR3_") for source in sources if isinstance(source, Preset))
        lines += ["", f"## {heading}", ""]
        lines.append("- **FluidR3 soundfonts** (Debian packages fluid-soundfont-gm and -gs), MIT, Copyright (c) 2000-2002, 2008 Frank Wen.")
        lines.append(f"  Presets (font:bank:program): {programs}.")
        for source in sources:
            if isinstance(source, Recordings):
                takes = recordings(packages, source)
                title = takes[0].title if len(takes) == 1 else f"{len(takes)} strums of belofilms_GuitarStrums ({source.names[0]})"
                lines.append(f"- **{title}** (Debian package {source.package}), {takes[0].licence}, by {takes[0].author}.")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, default=0)
    for split, default in (("train", 250), ("dev", 20), ("heldout", 40)):
        parser.add_argument(f"--{split}", type=int, default=default, metavar="CLIPS_PER_CLASS")
    parser.add_argument("--pairs", type=int, default=6, metavar="CLIPS_PER_PAIR")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for split in SPLITS:
        build(options.data, split, getattr(options, split), options.seed)
    build_pairs(options.data, options.pairs, options.seed)
    notice = REPOSITORY / "models" / "embedded-audio" / "NOTICE.md"
    notice.parent.mkdir(parents=True, exist_ok=True)
    write_notice(options.data / "packages", notice)
