"""Colour that leaves the gray of a spectrogram, and so its sound, as it is (paper A.1; Factorized Diffusion, arXiv 2404.11615).

Gray is the mean of the three channels; colour is the rest, and sums to zero over them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .pixels import LEVELS

MARGIN = 2e-4
"""How far, in levels, a coloured pixel keeps from where a saver's truncation or rounding turns: float32 is off by 3e-5 there."""


def split_gray(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Gray part (B, 1, H, W), the mean over channels, and colour part (B, 3, H, W), which sums to zero over them."""
    gray = pixels.mean(dim=1, keepdim=True)
    return gray, pixels - gray


def with_gray(pixels: Tensor, gray: Tensor) -> Tensor:
    """The projection: pixels (B, 3, H, W) with `gray` (B, 1, H, W) in place of their own gray part.

    Applied to the denoised (x0) estimates of a sampler it is the whole method: the gray part of *every* noisy picture is then the equally
    noised spectrogram. A picture at noise level sigma is x = s + sigma n where sampling starts, n being noise on three channels. With
    gray(D(x)) = gray(s), a step to sigma' along d = (x - D(x)) / sigma gives gray(x') = gray(D) + sigma' gray(d) = gray(s) + sigma'
    gray(n), and so on for each following step: gray(n) never changes. A sampler of higher order follows the same line, which is straight,
    and one that adds noise adds it to gray(n). So x_t <- gray(noised spectrogram) + colour(x_t), the method's own step, replaces nothing.
    """
    return gray + split_gray(pixels)[1]


def fit_color(color: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """Colour part (B, 3, H, W) made paler, its hue kept, where a channel would go lower than -below or higher than above (B, 1, H, W)."""
    room = torch.where(color > 0, above, below) / color.abs().clamp(min=1e-6)
    return color * room.amin(dim=1, keepdim=True).clamp(max=1.0)


def within_gamut(gray: Tensor, color: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in 0..1 whose mean is `gray` (B, 1, H, W) in 0..1; where the colour (B, 3, H, W) does not fit, it is paler."""
    return gray + fit_color(color, gray, 1.0 - gray)


def enlarge_color(color: Tensor, coarse_gray: Tensor, gray: Tensor) -> Tensor:
    """Colour part (B, 3, h, w) found on `coarse_gray` (B, 1, h, w), for the larger `gray` (B, 1, H, W) in 0..1.

    What is interpolated is colour per gray: a fine bright line is as saturated as its surroundings, and a dark gap beside it stays dark.
    """
    size = gray.shape[-2:]
    color = F.interpolate(split_gray(within_gamut(coarse_gray, color))[1], size, mode="bilinear")
    return color * gray / F.interpolate(coarse_gray, size, mode="bilinear").clamp(min=torch.finfo(gray.dtype).eps)


@dataclass(frozen=True)
class Colored:
    """A coloured spectrogram and what fitting it into the gamut cost."""

    pixels: Tensor
    """RGB (B, 3, H, W), float32 in 0..1."""
    lost: Tensor
    """Share of the chroma that was asked for and did not fit, (B,), 0..1."""


def color_spectrogram(gray: Tensor, color: Tensor) -> Colored:
    """Colour a spectrogram (B, 1, H, W), float32 in 0..1, with a colour part (B, 3, H, W) so that an 8-bit file keeps its sound.

    The channel mean is `gray` to 1e-6. Saved with 8 bits by a saver that truncates (ComfyUI's) or one that rounds (half to even), the mean
    of a pixel's three bytes is exactly the byte that the same saver makes of `gray`. For that, colour moves a channel by whole levels of
    1/255 that sum to zero, so that all three have one fraction of a level, kept MARGIN off 0, 1/2 and 1. Colour that would leave the
    gamut is paler; silence and full loudness, 0 and 1, stay black and white.
    """
    level = LEVELS * gray.float()  # in float32, as savers compute it
    whole = level.floor()
    asked = LEVELS * split_gray(color.float())[1]
    # The byte above must exist too, because rounding may reach it. Both bounds are whole numbers, so the nearest whole steps keep them.
    fitted = fit_color(asked, whole, (LEVELS - 1 - whole).clamp(min=0))
    steps = nearest_zero_sum(fitted)

    fraction = level - whole
    rounds_down = (fraction < 0.5) | (fraction == 0.5) & (whole % 2 == 0)
    held = torch.where(rounds_down, fraction.clamp(MARGIN, 0.5 - MARGIN), fraction.clamp(0.5 + MARGIN, 1.0 - MARGIN))
    pixels = ((whole + held).cpu().double() + steps.cpu()) / LEVELS  # on the host: Apple's GPUs have no double precision
    pixels = torch.where(steps.any(dim=1, keepdim=True), pixels.to(level), gray.float())

    chroma, kept = (part.norm(dim=1).sum(dim=(1, 2)) for part in (asked, fitted))
    return Colored(pixels, (chroma - kept) / chroma.clamp(min=torch.finfo(chroma.dtype).tiny))


def nearest_zero_sum(triples: Tensor) -> Tensor:
    """The whole numbers (B, 3, ...) with sum zero over dim 1 that are nearest to real ones with sum zero.

    The nearest point of the lattice A2 (Conway and Sloane 1982): round each, and where the sum comes out as 1 or -1, round the one whose
    rounding went furthest that way to its other side.
    """
    rounded = triples.round()
    excess = rounded.sum(dim=1, keepdim=True)
    error = triples - rounded
    furthest = torch.where(excess > 0, error.argmin(dim=1, keepdim=True), error.argmax(dim=1, keepdim=True))
    return rounded.scatter_add(1, furthest, -excess)
