"""A spectrogram coloured by any model, in a form that keeps its sound, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_patcher
import comfy.sd
import torch.nn.functional as F
from torch import Tensor

from ..itsound_core.colorize import color_spectrogram, split_gray
from ..itsound_core.pixels import RGB
from . import picture_inputs
from .color_sampling import Request, deepfloyd_color, model_color
from .deepfloyd_folder import DeepFloydIF

MULTIPLE = 64
"""Columns are padded to a multiple of this: four halvings of a quarter-size picture, or three of latents."""
COLORFUL = 0.02
"""Mean chroma above which a spectrogram counts as coloured; a VAE leaves some in a gray one."""


@dataclass(frozen=True)
class Way:
    """What paints, and how: `vae` and `vae_interval` are of latent models, `noise_level` of DeepFloyd IF, sampler and scheduler not."""

    model: comfy.model_patcher.ModelPatcher | DeepFloydIF
    sampler_name: str
    scheduler: str
    vae: comfy.sd.VAE | None
    vae_interval: int
    noise_level: int

    def color(self, canvas: Tensor, request: Request) -> Tensor:
        """Colour part (B, 3, H, W), in units of gray, for spectrograms (B, 1, H, W) in 0..1. Raises ValueError for sockets that clash."""
        if not isinstance(self.model, DeepFloydIF):
            return model_color(canvas, request, self.model, self.sampler_name, self.scheduler, self.vae, self.vae_interval)
        if self.vae is not None:
            raise ValueError(f"{request.node}: model is DeepFloyd IF, which works on pixels, but vae is connected. Disconnect vae.")
        return deepfloyd_color(canvas, request, self.model, self.noise_level)


def colorize(spectrogram: Tensor, request: Request, way: Way, view: str = "none") -> tuple[Tensor, list[str]]:
    """Coloured IMAGE of a spectrogram IMAGE (B, 256, W, any channels), or of a canvas with a view, and remarks for the user.

    Raises ValueError naming the node for inputs that do not go together, and where the model overflowed.
    """
    gray = picture_inputs.picture(spectrogram, request.node, view=view)[:, None]
    if request.start_step >= request.steps:
        raise ValueError(
            f"{request.node}: start_step is {request.start_step} of {request.steps} steps, so no step is left. Set it below; the "
            "paper's is 7 of 30."
        )
    color = way.color(F.pad(gray, (0, -gray.shape[-1] % MULTIPLE, 0, 0), mode="replicate"), request)
    if not color.isfinite().all():
        raise ValueError(
            f"{request.node}: the model's picture holds values that are NaN or infinite: it overflowed in half precision. Load the model "
            "with weight_dtype fp32 or bf16; for a VAE, start ComfyUI with --fp32-vae."
        )
    colored = color_spectrogram(gray, color[..., : gray.shape[-1]].to(gray))

    remarks = [f"{100 * float(colored.lost.mean()):.0f} % of the colour did not fit between black and white and was left out."]
    if float(split_gray(spectrogram[..., :RGB].movedim(-1, 1))[1].abs().mean()) > COLORFUL:
        remarks.append("The spectrogram came in colour: its channel mean was kept, its colours were not.")
    if isinstance(way.model, DeepFloydIF):
        remarks.append("DeepFloyd IF has its own sampler: sampler_name and scheduler were not used.")
    return colored.pixels.movedim(1, -1), remarks  # BCHW -> BHWC
