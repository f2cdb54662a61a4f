"""How much of a picture is seen on a canvas, wherever it lies there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FLAT = 1e-3
"""Standard deviation below which an area shows nothing."""


def correlations(canvas: Tensor, template: Tensor) -> Tensor:
    """Pearson correlation (..., W - w + 1) of a template (..., H, w) with the canvas (..., H, W) at each place where it lies whole.

    0 where one of them is flat.
    """
    width, size = template.shape[-1], template.shape[-2] * template.shape[-1]
    places = canvas.shape[-1] - width + 1
    centred = (template - template.mean((-2, -1), keepdim=True)).float()
    length = 2 ** math.ceil(math.log2(canvas.shape[-1]))
    product = torch.fft.irfft((torch.fft.rfft(canvas.float(), length) * torch.fft.rfft(centred, length).conj()).sum(-2), length)[
        ..., :places
    ]
    sums, squares = (F.pad(value.double().sum(-2).cumsum(-1), (1, 0)) for value in (canvas, canvas.square()))
    mean = (sums[..., width:] - sums[..., :-width]) / size
    variance = ((squares[..., width:] - squares[..., :-width]) / size - mean.square()).clamp(min=0)
    deviation = (centred.square().mean((-2, -1))[..., None] * variance).sqrt()
    return torch.where(deviation > FLAT**2, product / size / deviation.clamp(min=FLAT**2), 0.0)


@dataclass(frozen=True)
class Likeness:
    """Compares canvases (256, W) with a picture in several widths, repeated with several gaps.

    pictures: (256, w) each. gaps: columns between two copies, which do not count.
    """

    pictures: Sequence[Tensor]
    gaps: Sequence[int]
    window: int = 128

    def layout(self, canvas: Tensor) -> tuple[float, Tensor, Tensor]:
        """The copies that the canvas is most like, at any shift: correlation, copies (256, W), and which columns (W,) they cover."""
        best, columns = (-2.0, canvas, canvas[0] > 2), canvas.shape[1]
        for picture in self.pictures:
            for gap in self.gaps:
                period = picture.shape[1] + gap
                copies, covered = (
                    F.pad(part, (0, gap)).repeat(1, columns // period + 2)[:, : period + columns - 1]
                    for part in (picture, torch.ones_like(picture[:1]))
                )
                values = _covered_correlations(copies, covered, canvas)
                if float(values.max()) > best[0]:
                    at = int(values.argmax())
                    best = float(values.max()), copies[:, at : at + columns], covered[0, at : at + columns] > 0
        return best

    def pieces(self, canvas: Tensor) -> float:
        """Mean over windows of `window` columns, each correlated with that piece of a copy, or of two in a row, that it is most like."""
        windows = canvas.unfold(1, self.window, self.window).movedim(1, 0)  # (N, 256, window)
        strips = [F.pad(picture, (0, gap)) for picture in self.pictures for gap in self.gaps]
        found = [correlations(torch.cat([strip, strip[:, : self.window]], 1), windows).amax(-1) for strip in strips]
        return float(torch.stack(found).amax(0).mean())

    def blocks(self, canvas: Tensor, side: int = 32) -> float:
        """In the best layout: mean correlation within squares of `side` pixels, of those in which the picture shows something."""
        _, copies, covered = self.layout(canvas)
        shown, seen = (F.unfold(part[None, None].float(), side, stride=side)[0] for part in (copies, canvas))
        shown, seen = shown - shown.mean(0), seen - seen.mean(0)
        deviation = shown.square().mean(0).sqrt(), seen.square().mean(0).sqrt()
        whole = F.unfold(covered.expand_as(canvas)[None, None].float(), side, stride=side)[0].mean(0) == 1
        kept = (deviation[0] > 0.03) & whole
        value = (shown * seen).mean(0) / (deviation[0] * deviation[1]).clamp(min=FLAT**2)
        return float(value[kept].mean()) if kept.any() else 0.0


def _covered_correlations(copies: Tensor, covered: Tensor, canvas: Tensor) -> Tensor:
    """Correlation (P,) of the canvas (H, W) with copies (H, P + W - 1), shifted by 0..P - 1, over the columns that are covered (1, ...)."""
    rows, columns = canvas.shape
    length = 2 ** math.ceil(math.log2(copies.shape[1]))

    def over(first: Tensor, second: Tensor) -> Tensor:
        """sum over rows and columns c of first[c + shift] second[c]."""
        spectrum = (torch.fft.rfft(first.double(), length) * torch.fft.rfft(second.double(), length).conj()).sum(0)
        return torch.fft.irfft(spectrum, length)[: copies.shape[1] - columns + 1]

    ones = torch.ones_like(canvas[:1])
    number = rows * over(covered, ones)
    shown, shown_squared = (over(part.sum(0, keepdim=True) * covered, ones) for part in (copies, copies.square()))
    seen, seen_squared = (over(covered, part.sum(0, keepdim=True)) for part in (canvas, canvas.square()))
    covariance = over(copies * covered, canvas) - shown * seen / number
    shown_variance, seen_variance = (
        (squared - total.square() / number).clamp(min=0) for squared, total in ((shown_squared, shown), (seen_squared, seen))
    )
    return covariance / (shown_variance * seen_variance).sqrt().clamp(min=FLAT)
