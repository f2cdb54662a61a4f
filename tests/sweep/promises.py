"""What each node's outputs have to do with its inputs, as users read it in the node's texts, and what is wrong with those that have not.

The numbers are written out here and not read from the pack: 100 columns a second, 160 samples a column, 256 rows, 24 rows of a label.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Format(NamedTuple):
    """A spectrogram of a view: its sound's rate, samples a column, rows of its canvas, and columns that hold no sound."""

    rate: int
    hop: int
    rows: int
    lines: int = 1
    """Rows of the sound below each other on a canvas."""
    spare: int = 0
    shortest: int = 6

    @property
    def height(self) -> int:
        return self.rows * self.lines

    def samples(self, width: int) -> int:
        """Of the sound of a canvas of that width."""
        return (self.lines * width - self.spare) * self.hop


FORMATS = {
    "none": Format(16000, 160, 256),
    "two-row square": Format(16000, 160, 256, lines=2),
    "Riffusion": Format(44100, 441, 512, spare=1, shortest=22),
}
FULL_SCALE = 1.0 + 1e-4
LEVEL = 1 / 255
LABEL = 24
LATENT = 8
"""Pixels of a latent."""


def is_lively(values: Tensor) -> bool:
    """Whether no item of a batch is constant."""
    items = values.detach().float().flatten(1)
    return bool(((items.amax(1) - items.amin(1)) > 1e-4).all())


@dataclass(frozen=True)
class Picture:
    """An IMAGE. With `lively` no item is constant; `pixels` is all of it, `mean` the mean of its colours."""

    batch: int
    height: int
    width: int
    channels: int = 3
    lively: bool = False
    gray: bool = False
    pixels: Tensor | None = None
    mean: Tensor | None = None
    spare: int = 0
    """Columns by which the width may differ."""

    def wrong(self, value: Tensor) -> str | None:
        wanted = (self.batch, self.height, self.width, self.channels)
        near = (*wanted[:2], value.shape[2] if abs(value.shape[2] - self.width) <= self.spare else self.width, self.channels)
        if tuple(value.shape) != near:
            return f"shape {tuple(value.shape)}, not {wanted}"
        if self.gray and not torch.allclose(value, value[..., :1].expand_as(value), atol=1e-3):
            return "coloured, not gray"
        if self.pixels is not None and not torch.allclose(value.float(), self.pixels.expand_as(value), atol=1e-5):
            return "other pixels than came in"
        if self.mean is not None and float((value[..., :3].mean(-1) - self.mean).abs().max()) > LEVEL:
            return "its gray is not what came in"
        return "constant, of what is not" if self.lively and not is_lively(value) else None


@dataclass(frozen=True)
class Sound:
    """An AUDIO. `waveform` is all of it; `power` the most that its samples' mean square may be."""

    batch: int
    channels: int
    samples: int
    rate: int
    lively: bool = False
    loudest: float = FULL_SCALE
    waveform: Tensor | None = None
    power: float = math.inf
    same_until: tuple[Tensor, int] | None = None
    """What came in, and the sample up to which nothing of it is changed."""

    def wrong(self, value: Mapping[str, Any]) -> str | None:
        waveform, wanted = value["waveform"], (self.batch, self.channels, self.samples)
        if tuple(waveform.shape) != wanted or value["sample_rate"] != self.rate:
            return f"shape {tuple(waveform.shape)} at {value['sample_rate']} Hz, not {wanted} at {self.rate}"
        if float(waveform.abs().max()) > self.loudest:
            return f"samples of up to {float(waveform.abs().max()):g}, and {self.loudest:g} is the loudest"
        if self.waveform is not None and not torch.equal(waveform, self.waveform.expand_as(waveform)):
            return "other samples than came in"
        if float(waveform.double().square().mean()) > self.power:
            return "louder than what came in"
        if self.same_until and not torch.equal(waveform[..., : self.same_until[1]], self.same_until[0][..., : self.same_until[1]]):
            return "changed where nothing was asked"
        return "silent, of what is not" if self.lively and not is_lively(waveform) else None


@dataclass(frozen=True)
class Latents:
    """A LATENT, and the other keys of one that came in."""

    shape: tuple[int, ...]
    samples: Tensor | None = None
    lively: bool = False
    keys: frozenset[str] = frozenset()

    def wrong(self, value: Mapping[str, Any]) -> str | None:
        if tuple(value["samples"].shape) != self.shape:
            return f"shape {tuple(value['samples'].shape)}, not {self.shape}"
        if self.samples is not None and not torch.equal(value["samples"], self.samples):
            return "other latents than came in"
        if lost := self.keys - set(value):
            return f"lost {', '.join(sorted(lost))}"
        return "constant latents" if self.lively and not is_lively(value["samples"]) else None


@dataclass(frozen=True)
class Words:
    """A STRING of so many pieces, each as the pattern."""

    pieces: int
    pattern: str
    between: str = "\n"

    def wrong(self, value: str) -> str | None:
        pieces = value.split(self.between)
        fits = len(pieces) == self.pieces and all(re.fullmatch(self.pattern, piece) for piece in pieces)
        return None if fits else f"text {value[:80]!r}, not {self.pieces} of {self.pattern!r}"


@dataclass(frozen=True)
class Has:
    """Something with attributes of these values."""

    values: Mapping[str, Any]

    def wrong(self, value: Any) -> str | None:
        other = {name: getattr(value, name) for name, wanted in self.values.items() if getattr(value, name) != wanted}
        return f"{other}, not {dict(self.values)}" if other else None


@dataclass(frozen=True)
class Items:
    """SCORES of so many samples."""

    count: int

    def wrong(self, value: Any) -> str | None:
        return None if len(value.picture) == len(value.sound) == self.count else f"{len(value.picture)} scores, not {self.count}"


@dataclass(frozen=True)
class Kept:
    """So many items of what came in, with all that it held beside its tensors; what did not come in does not go out."""

    count: int
    of: Any

    def wrong(self, value: Any) -> str | None:
        if self.of is None:
            return None if type(value).__name__ == "ExecutionBlocker" else "something, of nothing"
        given, found = (one if isinstance(one, Mapping) else {"pixels": one} for one in (self.of, value))
        if missing := set(given) - set(found):
            return f"lost {', '.join(sorted(missing))}"
        (kind,) = {"pixels", "waveform", "samples"} & set(given)
        all_of_it = pixels(given[kind]) if kind == "pixels" else given[kind]
        if tuple(found[kind].shape) != (self.count, *all_of_it.shape[1:]):
            return f"shape {tuple(found[kind].shape)}, not {self.count} of {tuple(all_of_it.shape)}"
        strange = any(not any(torch.equal(item, one) for one in all_of_it) for item in found[kind])
        return "items that did not come in" if strange else None


@dataclass(frozen=True)
class Film:
    """A VIDEO of so many seconds and pixels, but for a frame and for what a codec adds; `size` None: any."""

    seconds: float
    fps: float
    size: tuple[int, int] | None

    def wrong(self, value: Any) -> str | None:
        if abs(value.get_duration() - self.seconds) > 1 / self.fps + 0.1:
            return f"{value.get_duration():.2f} s, not {self.seconds:.2f}"
        if self.size and tuple(value.get_dimensions()) != self.size:
            return f"{value.get_dimensions()} pixels, not {self.size}"
        return None


Promise = Picture | Sound | Latents | Words | Has | Items | Kept | Film | None
"""None: only what every output of its type must be."""


# What came in --------------------------------------------------------------------------------------------------------------------------


def pixels(image: Tensor) -> Tensor:
    return image.float().clamp(0.0, 1.0)


def gray(image: Tensor) -> Tensor:
    return pixels(image)[..., :3].mean(-1)


def samples(audio: Mapping[str, Any]) -> Tensor:
    """In -1..1, as float32."""
    given = audio["waveform"]
    if given.is_floating_point():
        return given.float()
    full = torch.iinfo(given.dtype)
    return ((given.double() - (full.max + 1 + full.min) / 2) / ((full.max + 1 - full.min) / 2)).float()


def _three(waveform: Tensor) -> tuple[int, int, int]:
    batch, channels, length = waveform.shape
    return batch, channels, length


def most(*batches: Any) -> int:
    return max(len(batch) for batch in batches)


def resampled(audio: Mapping[str, Any], rate: int) -> int:
    return -(-audio["waveform"].shape[-1] * rate // int(audio["sample_rate"]))


# The table: for each node, its outputs in their order -------------------------------------------------------------------------------------


def spectrogram_to_audio(g: Any) -> Sequence[Promise]:
    fmt = FORMATS[g.view]
    turn = fmt.spare * fmt.hop if g.loop else 0  # the last column goes on into the first
    of = (len(g.spectrogram), 1, fmt.samples(g.spectrogram.shape[2]) + turn, fmt.rate)
    return [Sound(*of, lively=is_lively(gray(g.spectrogram)))]


def audio_to_spectrogram(g: Any) -> Sequence[Promise]:
    fmt, sound = FORMATS[g.view], samples(g.audio)
    columns = g.seconds * fmt.rate / fmt.hop if g.seconds else resampled(g.audio, fmt.rate) / fmt.hop + fmt.spare
    width = max(math.ceil(columns / fmt.lines), fmt.shortest)
    heard = len(sound[0]) == 1 and (not g.seconds or g.seconds > 0.1) and sound.shape[-1] > 1000  # channels may cancel
    return [Picture(len(sound), fmt.height, width, gray=True, spare=1, lively=heard and is_lively(sound))]


def trim_canvas(g: Any) -> Sequence[Promise]:
    fmt, rate, width = FORMATS[g.view], int(g.audio["sample_rate"]), g.spectrogram.shape[2] - g.columns
    kept = samples(g.audio)[..., : round(fmt.samples(width) * rate / fmt.rate)]
    picture = pixels(g.spectrogram)[:, :, :width]
    return [
        Picture(len(picture), fmt.height, width, picture.shape[-1], pixels=picture),
        Sound(*_three(kept), rate, loudest=math.inf, waveform=kept),
    ]


def cycle_consistency(g: Any) -> Sequence[Promise]:
    fmt, batch = FORMATS[g.view], most(g.spectrogram, g.audio["waveform"])
    line = r"\d+: mean difference [\d.]+ dB, correlation -?[\d.]+(; [\d.]+ dB (louder|quieter) than the picture, .*)?"
    return [Picture(batch, 3 * (LABEL + fmt.rows), fmt.lines * g.spectrogram.shape[2], lively=True), Words(batch, line)]


def renormalize_spectrogram(g: Any) -> Sequence[Promise]:
    of, meant = g.spectrogram.shape[:3], gray(g.spectrogram)
    if g.stretch and is_lively(meant):
        low, high = meant.amin((1, 2), keepdim=True), meant.amax((1, 2), keepdim=True)
        return [Picture(*of, mean=(meant - low) / (high - low), gray=g.colormap == "gray")]
    return [Picture(*of, mean=None if g.stretch else meant, gray=g.colormap == "gray")]


def view_canvas(g: Any) -> Sequence[Promise]:
    seen = pixels(g.canvas)
    if g.view == "two-row square":
        seen = torch.cat(seen.chunk(2, 2 if g.inverse else 1), 1 if g.inverse else 2)
    return [Picture(*seen.shape, pixels=seen)]


def keeper_search(g: Any) -> Sequence[Promise]:
    fmt, (_, _, rows, columns) = FORMATS[g.view], g.latent_image["samples"].shape
    kept, width = g.keepers, LATENT * columns
    return [
        Latents((kept, 4, rows, columns), lively=True),
        Picture(kept, LATENT * rows, width, gray=True, lively=True),
        Sound(kept, 1, fmt.samples(width), fmt.rate, lively=True),
        None,
        Words(kept, r"\d+", ", "),
    ]


def factorized_colorize(g: Any) -> Sequence[Promise]:
    return [Picture(*g.spectrogram.shape[:3], mean=gray(g.spectrogram))]


def examples_to_audio(g: Any) -> Sequence[Promise]:
    sound, rate = samples(g.recording), int(g.recording["sample_rate"])
    batch, length = most(g.spectrogram, sound), round(g.spectrogram.shape[2] * rate / 100)
    return [Sound(batch, sound.shape[1], length, rate, lively=is_lively(gray(g.spectrogram)) and is_lively(sound))]


def imprint_baseline(g: Any) -> Sequence[Promise]:
    batch = most(g.image, g.spectrogram)
    return [Picture(batch, *g.spectrogram.shape[1:3], gray=True, lively=g.rho < 1 and is_lively(gray(g.spectrogram)))]


def imprint_recording(g: Any) -> Sequence[Promise]:
    sound, rate = samples(g.audio), int(g.audio["sample_rate"])
    batch = most(g.image, sound)
    sound = sound.expand(batch, *sound.shape[1:])
    long = min(g.seconds or math.inf, sound.shape[-1] / rate - g.start)
    power = float(sound.double().square().mean()) * 1.01 + 1e-12
    return [
        Sound(*_three(sound), rate, loudest=math.inf, power=power, same_until=(sound, math.floor(g.start * rate))),
        Picture(batch, 256, max(math.ceil(long * 100 - 1e-6), 6), gray=True, spare=1),
    ]


def score_image_and_sound(g: Any) -> Sequence[Promise]:
    return [Items(most(g.images, g.audio["waveform"])), None, None]


def keep_best(g: Any) -> Sequence[Promise]:
    return [Kept(g.count, g.images), Kept(g.count, g.audio), Kept(g.count, g.latents), Words(g.count, r"\d+", ", ")]


def empty_spectrogram_latent(g: Any) -> Sequence[Promise]:
    fmt, step = FORMATS[g.view], 2 if g.view == "none" or g.view == "Riffusion" else 4
    columns = step * math.ceil(g.seconds * 12.5 / step - 1e-6)
    return [Latents((g.batch_size, 4, fmt.height // LATENT, columns // fmt.lines))]


def multimodal_ksampler(g: Any) -> Sequence[Promise]:
    given = g.latent_image["samples"]
    return [
        Latents((len(given), 4, *given.shape[2:]), lively=g.denoise > 0, keys=frozenset(g.latent_image) & {"noise_mask", "batch_index"})
    ]


def sds_baseline(g: Any) -> Sequence[Promise]:
    return [Picture(1, 256, LATENT * 2 * math.ceil(g.seconds * 6.25 - 1e-6), gray=True)]


def playhead_video(g: Any) -> Sequence[Promise]:
    batch, sound = most(g.image, g.audio["waveform"]), g.audio["waveform"]
    if g.image_below is not None:
        batch = max(batch, len(g.image_below))
    even = tuple(size + size % 2 for size in (g.image.shape[2], g.image.shape[1]))
    size = even if g.layout == "picture" and g.image_below is None else None
    return [Film(batch * sound.shape[-1] / int(g.audio["sample_rate"]), g.fps, size)]


PROMISES: Mapping[str, Callable[[Any], Sequence[Promise]]] = {
    "SpectrogramToAudio": spectrogram_to_audio,
    "AudioToSpectrogram": audio_to_spectrogram,
    "TrimCanvas": trim_canvas,
    "CycleConsistency": cycle_consistency,
    "RenormalizeSpectrogram": renormalize_spectrogram,
    "ViewCanvas": view_canvas,
    "KeeperSearch": keeper_search,
    "FactorizedColorize": factorized_colorize,
    "ExamplesToAudio": examples_to_audio,
    "ScoreImageAndSound": score_image_and_sound,
    "ImprintBaseline": imprint_baseline,
    "ImprintRecording": imprint_recording,
    "KeepBest": keep_best,
    "EmptySpectrogramLatent": empty_spectrogram_latent,
    "MultimodalKSampler": multimodal_ksampler,
    "SDSBaseline": sds_baseline,
    "PlayheadVideo": playhead_video,
    "LoadVocoder": lambda g: [Has({"name": g.vocoder_name})],
}
"""What is not here gives models and text alone, or files."""


# Files ---------------------------------------------------------------------------------------------------------------------------------


def saved_pairs(g: Any, shown: Mapping[str, Any]) -> str | None:
    """Of a node that saves a PNG and a FLAC of each item: whether they are there, open, and hold what came in."""
    pairs = (
        [(one["picture"], one["sound"]) for one in shown["player"]]
        if "player" in shown
        else list(zip(shown["images"], shown["audio"], strict=True))
    )
    picture, sound = pixels(g.image), samples(g.audio)
    if len(pairs) != most(picture, sound):
        return f"{len(pairs)} pairs of files, not {most(picture, sound)}"
    for number, files in enumerate(pairs):
        png, flac = map(_path, files)
        if missing := [path.name for path in (png, flac) if not path.is_file()]:
            return f"no file {', '.join(missing)}"
        seen, (heard, rate) = _png(png), _flac(flac)
        meant, played = picture[number % len(picture)].cpu(), sound[number % len(sound)]
        if seen.shape[:2] != meant.shape[:2] or float((seen.mean(-1) - meant[..., :3].mean(-1)).abs().max()) > 1.5 * LEVEL:
            return f"{png.name} is another picture, {tuple(seen.shape)}"
        channels = len(played) if len(played) <= 2 else 1
        if tuple(heard.shape) != (channels, played.shape[-1]) or rate != int(g.audio["sample_rate"]):
            return f"{flac.name} has the shape {tuple(heard.shape)} at {rate} Hz, not {(channels, played.shape[-1])}"
        if len(played) == channels and float((heard - played.clamp(-1, 1)).abs().max()) > 1e-3 and float(played.abs().max()) <= 1:
            return f"{flac.name} is another sound"
    return None


def kept_run(g: Any, shown: Mapping[str, Any]) -> str | None:
    """Of SDSBaseline: whether a named run was kept."""
    import folder_paths

    there = Path(folder_paths.get_output_directory(), "sds").glob(f"{g.checkpoint_name}*") if g.checkpoint_name else [g]
    return None if any(True for _ in there) else f"no checkpoint {g.checkpoint_name}"


def _path(saved: Mapping[str, Any]) -> Path:
    import folder_paths

    kind = saved["type"]
    return Path(folder_paths.get_directory_by_type(getattr(kind, "value", kind)), saved["subfolder"], saved["filename"])


def _png(path: Path) -> Tensor:
    import numpy
    from PIL import Image

    with Image.open(path) as picture:
        return torch.from_numpy(numpy.asarray(picture.convert("RGB"), dtype=numpy.float32)) / 255


def _flac(path: Path) -> tuple[Tensor, int]:
    import av

    with av.open(str(path)) as container:
        stream, pieces = container.streams.audio[0], []
        for frame in container.decode(stream):
            array = frame.to_ndarray()
            array = array if array.shape[0] == frame.layout.nb_channels else array.reshape(-1, frame.layout.nb_channels).T
            pieces.append(torch.from_numpy(array.copy()).double() / 2.0 ** (8 * array.dtype.itemsize - 1))
        return torch.cat(pieces, dim=1).float(), stream.rate


FILES: Mapping[str, Callable[[Any, Mapping[str, Any]], str | None]] = {
    "SaveImageThatSounds": saved_pairs,
    "PlayImage": saved_pairs,
    "SDSBaseline": kept_run,
}
"""Of nodes that write files: what is wrong with them, by what came in and what the node shows."""


def broken(schema: Any, given: Mapping[str, Any], results: Sequence[Any], shown: Mapping[str, Any]) -> str | None:
    """What of a node's promises is not kept, by what it was given, gives and shows; None where nothing is."""
    g = SimpleNamespace(**{widget.id: given.get(widget.id, getattr(widget, "default", None)) for widget in schema.inputs})
    outputs = schema.outputs or []
    for output, promise, value in zip(outputs, PROMISES.get(schema.node_id, lambda g: [None] * len(outputs))(g), results, strict=True):
        if promise and (complaint := promise.wrong(value)):
            return f"{output.id or output.display_name}: {complaint}"
    return FILES[schema.node_id](g, shown) if schema.node_id in FILES else None
