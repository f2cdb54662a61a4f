"""The imprint baseline (paper A.1): darken a spectrogram by a picture."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

Fit = Literal["cover", "contain", "stretch"]
FITS: tuple[Fit, ...] = get_args(Fit)


def darkness(image: Tensor) -> Tensor:
    """gray(1 - image), (B, H, W) in 0..1, of an image (B, C, H, W) in 0..1; gray is the channel mean.

    With two or four channels the last one is alpha: what is transparent darkens nothing.
    """
    if image.shape[1] in (2, 4):
        return (1.0 - image[:, :-1]).mean(1) * image[:, -1]
    return (1.0 - image).mean(1)


def fit_to(image: Tensor, height: int, width: int, fit: Fit = "cover") -> Tensor:
    """Resize (B, H, W) to (B, height, width), antialiased.

    "cover" keeps the proportions and crops what sticks out, "contain" keeps them and pads with 0, both centred; "stretch" distorts.
    """
    source_height, source_width = image.shape[-2:]
    if fit == "cover":
        crop_height = min(source_height, max(1, round(source_width * height / width)))
        crop_width = min(source_width, max(1, round(source_height * width / height)))
        top, left = (source_height - crop_height) // 2, (source_width - crop_width) // 2
        image = image[:, top : top + crop_height, left : left + crop_width]
    inner_height, inner_width = height, width
    if fit == "contain":
        scale = min(height / source_height, width / source_width)
        inner_height, inner_width = max(1, round(source_height * scale)), max(1, round(source_width * scale))
    resized = F.interpolate(image[:, None], (inner_height, inner_width), mode="bilinear", antialias=True)[:, 0]
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    return F.pad(resized, (left, width - inner_width - left, top, height - inner_height - top))


def imprint(image: Tensor, spectrogram: Tensor, rho: float = 0.5, fit: Fit = "cover") -> Tensor:
    """spectrogram * (1 - rho * gray(1 - image)) (paper A.1), (B, n_mels, frames) in 0..1.

    `image` is (B, C, H, W) in 0..1 of any size and channel count, `spectrogram` (B, n_mels, frames) in 0..1 with high frequencies at the
    top. The image is fitted to the spectrogram as `fit_to` says; where it does not reach ("contain"), the spectrogram stays as it is.
    A larger rho (0..1) gives a clearer picture and a worse sound. A single image or spectrogram serves the whole batch of the other.
    Raises ValueError when both are batches of different sizes.
    """
    if image.shape[0] != spectrogram.shape[0] and 1 not in (image.shape[0], spectrogram.shape[0]):
        raise ValueError(
            f"{image.shape[0]} images cannot be imprinted on {spectrogram.shape[0]} spectrograms. "
            "Give as many images as spectrograms, or only one of either."
        )
    return spectrogram * (1.0 - rho * fit_to(darkness(image.float()), *spectrogram.shape[-2:], fit=fit))
