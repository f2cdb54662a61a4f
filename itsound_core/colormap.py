"""Colours for spectrogram pictures that leave the sound alone: the channel mean of every colour is the gray value it stands for."""

from __future__ import annotations

import torch
from torch import Tensor

# Evenly spaced colours (red, green, blue) from silence to full scale. "fire" and "ice" walk along the edges of the colour cube, where the
# channel mean already is the gray value; the others give their hues and are brought to the right mean by `apply_colormap`.
COLORMAPS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "gray": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "fire": ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0)),
    "ice": ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    "magma": ((0.0, 0.0, 0.01), (0.32, 0.07, 0.49), (0.72, 0.21, 0.47), (0.99, 0.54, 0.38), (0.99, 0.99, 0.75)),
    "viridis": ((0.27, 0.0, 0.33), (0.23, 0.32, 0.55), (0.13, 0.57, 0.55), (0.37, 0.79, 0.38), (0.99, 0.91, 0.14)),
}


def renormalize(picture: Tensor) -> Tensor:
    """Min-max renormalisation of each picture (B, H, W) to 0..1 (paper 3.3: for viewing only). An even picture stays as it is.

    Every decibel of the picture is moved and scaled by this: heard, the result is louder and has another contrast.
    """
    darkest, brightest = picture.amin(dim=(-2, -1), keepdim=True), picture.amax(dim=(-2, -1), keepdim=True)
    span = brightest - darkest
    return torch.where(span > 0, (picture - darkest) / span.clamp(min=torch.finfo(picture.dtype).tiny), picture)


def as_gray(picture: Tensor) -> Tensor:
    """Picture (B, H, W) as (B, H, W, 3) of three equal channels, which share its memory: like any IMAGE it is not to be written to."""
    return picture[..., None].expand(*picture.shape, 3)


def apply_colormap(picture: Tensor, name: str) -> Tensor:
    """Picture (B, H, W) in 0..1 to colours (B, H, W, 3) in 0..1 whose channel mean is the picture, so that both give the same sound.

    The colour is the map's residual about its own gray (as in Factorized Diffusion: colour(x) = x - gray(x)), shrunk towards gray where
    the colour cube ends; black and white therefore stay black and white.
    """
    if name == "gray":
        return as_gray(picture.clamp(0.0, 1.0))
    anchors = picture.new_tensor(COLORMAPS[name])
    residuals = anchors - anchors.mean(dim=-1, keepdim=True)
    position = picture * (len(anchors) - 1)
    lower = position.long().clamp(max=len(anchors) - 2)
    residual = torch.lerp(residuals[lower], residuals[lower + 1], (position - lower)[..., None])
    gray = picture[..., None]
    tiny = torch.finfo(picture.dtype).tiny
    down, up = (-residual.amin(dim=-1, keepdim=True)).clamp(min=tiny), residual.amax(dim=-1, keepdim=True).clamp(min=tiny)
    room = torch.minimum(gray / down, (1.0 - gray) / up)
    return (gray + residual * room.clamp(max=1.0)).clamp(0.0, 1.0)
