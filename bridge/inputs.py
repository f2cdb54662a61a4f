"""What comes in at the nodes' borders: an IMAGE that must be a spectrogram, an AUDIO of any kind, text that a model can read."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import comfy.model_patcher
import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..itsound_core.pixels import LEVELS
from ..itsound_core.resampling import resample
from ..itsound_core.spectrogram import AUFFUSION, FRAMES_AT_A_TIME
from ..itsound_core.views import FORMATS, VIEWS, canvas_height
from .progress import interruptible

OVERSHOOT = 0.6
"""How far outside of 0..1 a picture's values may lie, and are clamped: a bicubic resize overshoots a photo's edges by 0.1, a QR code's by
0.43, twice by 0.5."""
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
LISTED, SHOWN = 50, 60
"""Choices, and characters of a value, that an error shows."""

CONDITIONING = "CONDITIONING"
MADE_OF: Mapping[str, tuple[str, ...]] = {
    "MODEL": ("model_options", "get_model_object", "clone"),
    "CLIP": ("tokenize", "clone"),
    "VAE": ("encode", "decode"),
    "GUIDER": ("sample", "model_patcher"),
    "VOCODER": ("patcher", "name"),
    "SCORER": ("picture", "sound", "embeddings"),
    "SCORES": ("picture", "sound", "table"),
    "DEEPFLOYD_IF": ("stage_1", "stage_2"),
}
"""By what a socket's value is known: other packs bring classes of their own."""

logger = logging.getLogger(__name__)

FOREIGN_TEXT = "{node}: {socket} has embeddings {found} wide, {model} reads {width}. Encode the prompt with the clip of the same loader."


def in_range(node: type[io.ComfyNode], values: Mapping[str, object]) -> None:
    """Whether each value is one that its widget can have, or its socket: ComfyUI checks what is set in a widget, not what a link brings.

    values: the node's inputs by name, such as `locals()` of its execute; names that are no input's are passed over. Raises ValueError
    naming node, input, value, and the range, the choices or what to connect; NaN lies in no range, and True counts as 1, as it does for
    ComfyUI where it is set in a widget. IMAGE, AUDIO and LATENT are left to what reads them.
    """
    schema = node.SCHEMA or node.GET_SCHEMA()  # ComfyUI keeps it from when it loads a pack
    for widget in schema.inputs:
        if widget.id not in values:
            continue
        value, wanted = values[widget.id], None
        if isinstance(widget, (io.Int.Input, io.Float.Input)):
            whole = isinstance(widget, io.Int.Input)
            known = isinstance(value, numbers.Integral if whole else numbers.Real)
            if not known or not (widget.min is None or widget.min <= value) or not (widget.max is None or value <= widget.max):
                wanted = f"it is a {'whole ' if whole else ''}number from {widget.min} to {widget.max}"
        elif isinstance(widget, io.Combo.Input):
            wanted = _wanted_choice(node, widget, value)
        elif isinstance(widget, io.Boolean.Input) and not (isinstance(value, (numbers.Real, np.bool_)) and value in (0, 1)):
            wanted = "it is true or false"
        elif isinstance(widget, (io.String.Input, io.Color.Input)) and not isinstance(value, str):
            wanted = "it is text"
        if wanted:
            shown = f'"{_shown(value)}"' if isinstance(widget, io.Combo.Input) and isinstance(value, str) else _shown(value)
            raise ValueError(f"{schema.node_id}: {widget.id} is {shown}; {wanted}. Change what is linked to it.")
    for socket in schema.inputs:
        value = values.get(socket.id)
        if socket.id in values and not (socket.optional and value is None) and not _fits(socket.get_io_type().split(","), value):
            found, kinds = "None" if value is None else f"a {type(value).__name__}", socket.get_io_type().replace(",", " or ")
            raise ValueError(f"{schema.node_id}: {socket.id} is {found}, no {kinds}. Connect an output of that kind, of a node that ran.")


def _fits(kinds: Sequence[str], value: object) -> bool:
    """Whether a socket of one of these kinds takes the value, as far as that can be told."""
    known = [kind for kind in kinds if kind in MADE_OF or kind == CONDITIONING]
    return not known or any(_conditions(value) if kind == CONDITIONING else _is_made_of(kind, value) for kind in known)


def _is_made_of(kind: str, value: object) -> bool:
    is_clip = kind != "CLIP" and hasattr(value, "tokenize")  # which has what a VAE has
    return not is_clip and all(hasattr(value, name) for name in MADE_OF[kind])


def _conditions(value: object) -> bool:
    """Whether it is a list of embeddings, each with a dict of options."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(entry, (list, tuple))
        and len(entry) == 2
        and isinstance(entry[0], (Tensor, type(None)))
        and isinstance(entry[1], Mapping)
        for entry in value
    )


def _wanted_choice(node: type[io.ComfyNode], combo: io.Combo.Input, value: object) -> str | None:
    """What a combo takes, where the value is none of it."""
    if isinstance(value, str) and value in (combo.options or ()):
        return None
    (now,) = (widget for widget in node.define_schema().inputs if widget.id == combo.id)  # files may have come since
    choices = list(now.options)
    if isinstance(value, str) and value in choices:
        return None
    more = f" and {len(choices) - LISTED} more" if len(choices) > LISTED else ""
    return f"it is one of: {', '.join(map(str, choices[:LISTED]))}{more}" if choices else "there is nothing to choose from"


def _shown(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def view_choice(tooltip: str, views: Sequence[str] = tuple(VIEWS)) -> io.Combo.Input:
    """The widget that says what canvas a picture is: which of the views, and with it the spectrogram's format."""
    return io.Combo.Input("view", options=list(views), default="none", optional=True, tooltip=tooltip)


def pixels(image: Tensor, node: str, socket: str) -> Tensor:
    """Channels (B, H, W, C) float32 in 0..1 of an IMAGE of 1, 3 or 4 channels; the fourth is alpha.

    Raises ValueError naming `node`, `socket`, culprit and remedy for another shape, for NaN and for values outside 0..1.
    """
    if not isinstance(image, Tensor) or image.is_complex():
        raise ValueError(f"{node}: {socket} is no IMAGE. Connect the IMAGE output of a loader or of VAE Decode.")
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        raise ValueError(
            f"{node}: {socket} has the shape {tuple(image.shape)}; an IMAGE is (batch, height, width, channels) with 1, 3 or 4 channels. "
            "Connect the IMAGE output of a loader or of VAE Decode."
        )
    channels = image.float()
    # Channels that share their memory, as a gray picture's do, are looked at once.
    lowest, highest = map(float, (channels[..., :1] if channels.stride(-1) == 0 else channels).aminmax())
    if not math.isfinite(lowest + highest):
        count = int((~channels.isfinite()).sum())
        raise ValueError(
            f"{node}: {socket} holds {count} values that are NaN or infinite. They come from a model that overflowed in half precision: "
            "start ComfyUI with --fp32-vae, or load the models with another weight_dtype."
        )
    if lowest < -OVERSHOOT or highest > 1.0 + OVERSHOOT:
        raise ValueError(
            f"{node}: {socket} has values from {lowest:.3g} to {highest:.3g}; an IMAGE lies in 0..1. "
            "No resize overshoots as far; divide 8-bit values by 255, or bring it to 0..1 in the node before."
        )
    return channels if lowest >= 0.0 and highest <= 1.0 else channels.clamp(0.0, 1.0)


def picture(image: Tensor, node: str, socket: str = "spectrogram", view: str = "none") -> Tensor:
    """Spectrogram picture (B, 256, frames) float32 in 0..1 of an IMAGE: the mean of its colour channels, the only gray there is.

    With a view, the canvas as it is looked at: (B, 512, frames / 2) of the two-row square, (B, 512, frames) of Riffusion's format. Alpha is
    ignored. Raises ValueError as `pixels` does, and where the height is not the view's or the width too little for its windows.
    """
    colours = pixels(image, node, socket)[..., :3]
    (height, width), fmt = colours.shape[1:3], FORMATS[view]
    view_height(height, node, socket, view)
    if height != canvas_height(view):
        raise ValueError(
            f"{node}: {socket} is {width} x {height} pixels; a spectrogram is {fmt.n_mels} high, one row for each mel band. Decode "
            f"a latent from EmptySpectrogramLatent, or make the picture with AudioToSpectrogram.{_other_views(height, view)}"
        )
    if width < fmt.shortest:
        raise ValueError(
            f"{node}: {socket} is {width} columns wide ({fmt.seconds(width):.2f} s); "
            f"at least {fmt.shortest} are needed. Use a wider picture."
        )
    return gray(colours)


def _other_views(height: int, view: str) -> str:
    """For errors: what else a picture of this height may be."""
    others = [name for name in FORMATS if name != view and canvas_height(name) == height]
    if "two-row square" in others:
        return (
            " Is it a two-row square? Lay it out with ViewCanvas first. Or is it Riffusion's spectrogram, on which white is silence? Nodes "
            "take that with view Riffusion; laid out, its negative would be heard."
        )
    return ""


def view_height(height: int, node: str, socket: str, view: str) -> None:
    """Raise ValueError where a picture has another height than the view that it is said to have; any passes without one."""
    wanted = canvas_height(view)
    if view == "none" or height == wanted:
        return
    square = "Connect the square picture itself, not the one that ViewCanvas laid out, or set view to none."
    riffusion = (
        "A spectrogram of 256 rows is Auffusion's: set view to none. Riffusion's comes from a canvas of EmptySpectrogramLatent, or from "
        "AudioToSpectrogram, with view Riffusion."
    )
    remedy = riffusion if view == "Riffusion" else square
    raise ValueError(f"{node}: {socket} is {height} pixels high, but view {view} has {wanted}. {remedy}")


def gray(colours: Tensor) -> Tensor:
    """Mean of the colours (B, H, W, 3) in 0..1 as (B, H, W) float32: the one gray there is, and what sounds. Stops when cancelled."""
    look = interruptible()
    pieces = colours.split(FRAMES_AT_A_TIME, dim=-2)
    grays = []
    for piece in pieces:
        grays.append(_gray(piece))
        look(len(grays), len(pieces))
    return torch.cat(grays, dim=-1)


def _gray(colours: Tensor) -> Tensor:
    # In double precision the mean of three equal channels is that channel to the bit; in single, 11 of the 256 levels would come out lower.
    colours = colours.cpu()  # Apple's GPUs have no double precision
    mean = colours.double().mean(dim=-1)
    # The mean of a coloured 8-bit pixel is a whole number of thirds of a level, but for what float32 rounded off its channels: put back, a
    # coloured file sounds to the bit as the gray one does.
    thirds = (3 * LEVELS * mean).round()
    rounded_off = (colours != colours[..., :1]).any(dim=-1) & ((3 * LEVELS * mean - thirds).abs() < 3e-5)
    return torch.where(rounded_off, thirds / (3 * LEVELS), mean).float()


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
            f"{node}: {socket} has the sample rate {_shown(rate)}; it must be a whole number from {lowest} to {highest} Hz. "
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


def pair(first: Tensor, second: Tensor, node: str, sockets: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """Both tensors with one batch size: a batch of one goes with every item of the other. Raises ValueError for any other difference."""
    sizes = len(first), len(second)
    if sizes[0] != sizes[1] and 1 not in sizes:
        raise ValueError(
            f"{node}: {sockets[0]} is a batch of {sizes[0]} and {sockets[1]} a batch of {sizes[1]}. "
            "Give both as many items, or one of them a single item."
        )
    return first.expand(max(sizes), *first.shape[1:]), second.expand(max(sizes), *second.shape[1:])


def text_width(model: comfy.model_patcher.ModelPatcher) -> int | None:
    """Width of the text embeddings that a MODEL reads; None where that is not known, or where another kind is translated for it (ELLA)."""
    if "model_function_wrapper" in model.model_options:
        return None
    unet_config = model.model.model_config.unet_config
    return unet_config.get("context_dim", unet_config.get("context_in_dim"))


def text(
    node: str, model: str, conditionings: Mapping[str, list], width: int | None, complaint: str = FOREIGN_TEXT, owner: str = ""
) -> None:
    """Whether each socket's CONDITIONING holds text, and embeddings of the width that `model` (its name in errors) reads; None: any width.

    Raises ValueError with `complaint`, in which {node}, {model}, {socket}, {found} and {width} are filled in; and, with `owner` before the
    socket's name, where a CONDITIONING is empty, has no tokens, or is NaN or infinite.
    """
    for socket, conditioning in conditionings.items():
        entries = [embeddings for embeddings, *_ in conditioning if isinstance(embeddings, Tensor)]
        found = {embeddings.shape[-1] for embeddings in entries if embeddings.ndim} - {width}
        if width is not None and found:
            raise ValueError(complaint.format(node=node, model=model, socket=socket, found=min(found), width=width))
        if not conditioning or any(embeddings.numel() == 0 for embeddings in entries):
            raise ValueError(f"{node}: {owner}{socket} conditioning is empty. Encode a prompt with CLIPTextEncode; its text may be empty.")
        if width is not None and (len(entries) < len(conditioning) or any(embeddings.ndim != 3 for embeddings in entries)):
            raise ValueError(
                f"{node}: {owner}{socket} conditioning holds no text embeddings, which are (prompts, tokens, width). Encode a prompt with "
                "CLIPTextEncode."
            )
        if not all(finite(embeddings) for embeddings in entries):
            raise ValueError(
                f"{node}: {owner}{socket} conditioning is NaN or infinite: its text encoder overflowed, or its file is damaged. "
                "Encode the prompt with another CLIP, or load that one in float32."
            )


def regions(node: str, owner: str, conditionings: Mapping[str, list], height: int, width: int) -> None:
    """Whether areas, masks and ranges of a CONDITIONING can be used on latents of height x width, as its model sees them.

    Raises ValueError naming `owner` and socket for an area that is empty or begins outside, a mask that is empty, and strengths, shares of
    the steps or masks that are NaN.
    """
    for socket, conditioning in conditionings.items():
        for _, options in conditioning:
            whose = f"{owner}{socket} conditioning"
            mask, area = options.get("mask"), options.get("area")
            if mask is not None and (mask.numel() == 0 or not finite(mask)):
                raise ValueError(f"{node}: the mask of {whose} is empty or NaN. Draw the mask anew.")
            for name in ("strength", "mask_strength", "start_percent", "end_percent"):
                if not _is_finite(options.get(name, 1.0)):
                    raise ValueError(f"{node}: the {name} of {whose} is {_shown(options[name])}. Set it to a number, such as 1.")
            if area is None:
                continue
            share = area[0] == "percentage"
            sides = area[1:] if share else area
            if not all(map(_is_finite, sides)) or min(sides[:2]) <= (-1 if share else 0):
                raise ValueError(f"{node}: an area of {whose} has no size ({_shown(area)}). Set its width and height anew.")
            y, x = (round(at * size) if share else at for at, size in zip(sides[-2:], (height, width), strict=True))
            if not (0 <= y < height and 0 <= x < width):
                raise ValueError(
                    f"{node}: an area of {whose} begins at x {x}, y {y}, outside of {width} x {height} latents as "
                    "that model sees them. Move the area (ConditioningSetArea counts pixels, 8 to a latent), or use a larger canvas."
                )


def _is_finite(number: object) -> bool:
    return isinstance(number, numbers.Real) and math.isfinite(number)


def finite(values: Tensor) -> bool:
    """Whether none of the values is NaN or infinite; one number is read from their device, and no mask of them all is made."""
    if not values.is_floating_point() or values.numel() == 0:
        return True
    lowest, highest = values.aminmax()
    return bool(lowest.isfinite() & highest.isfinite())
