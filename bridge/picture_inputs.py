"""An IMAGE that must be a spectrogram: its pixels, its gray, and the view that its height tells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from comfy_api.latest import io
from torch import Tensor

from ..itsound_core.pixels import LEVELS
from ..itsound_core.spectrogram import FRAMES_AT_A_TIME
from ..itsound_core.views import FORMATS, VIEWS, canvas_height
from .progress import interruptible

OVERSHOOT = 0.6
"""How far outside of 0..1 a picture's values may lie, and are clamped: a bicubic resize overshoots a photo's edges by 0.1, a QR code's by
0.43, twice by 0.5."""


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
