"""Examples as a MODEL: pictures encoded for the exact denoiser of "one of these, somewhere along the canvas", in ComfyUI's classes."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..itsound_core.examples import EDGE, ExampleDenoiser, Gaussian, Space
from ..itsound_core.latents import PIXELS_PER_LATENT
from ..itsound_core.spectrogram import AUFFUSION
from ..itsound_core.views import FORMATS, canvas_height
from . import conditioning_inputs, inputs

NODE = "ExamplesAsModel"
SPACES = ("black", "edge", "open")
SHIFTS = ("8 px", "4 px", "2 px", "1 px")
TEXT_WIDTH = 768
"""Of Stable Diffusion 1.x's text embeddings."""
CONTEXT = 64
"""Pixels beside an example that its VAE sees too: its latents there depend on what lies beyond."""
ENCODED_AT_ONCE = 8
LONGEST = 32768
"""Columns of an example, five and a half minutes."""
LARGEST_SIZE = 16.0
OTHER_FAMILY = "Connect the VAE of Stable Diffusion 1.x or, for another family, a MODEL of the VAE's own to `like`."
SMALLEST_SIGNAL = 1e-4
"""Share of x0 in the noisy latents below which a flow model's are taken for noise alone."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrangement:
    """How examples may lie on the canvas, as the node's inputs say it: coherence and gap in seconds."""

    coherence: float = 3.3
    sizes: tuple[float, ...] = (1.0, 1.5, 2.0)
    mirror: bool = False
    negative_space: str = "black"
    repeat: bool = True
    gap: float = 0.64
    temperature: float = 1.0
    shift: int = PIXELS_PER_LATENT
    """Pixels between the places that an example may take: 8, 4, 2 or 1."""

    @property
    def offsets(self) -> range:
        """Pixels by which an example is moved before it is encoded."""
        return range(0, PIXELS_PER_LATENT, self.shift)

    @property
    def gap_in_latents(self) -> bool:
        """Whether an example and its gap are encoded together."""
        return self.repeat and self.negative_space != "open"


def parse_sizes(text: str) -> tuple[float, ...]:
    """Numbers between commas, each above 0 and up to LARGEST_SIZE, without repetition. Raises ValueError naming culprit and remedy."""
    words = [word.strip() for word in text.replace("\n", ",").split(",") if word.strip()]
    try:
        sizes = [float(word) for word in words]
    except ValueError:
        sizes = []
    if not sizes or not all(0.0 < size <= LARGEST_SIZE for size in sizes):
        raise ValueError(
            f'{NODE}: sizes is "{text}"; it is one or more numbers above 0 and up to {LARGEST_SIZE:g}, between commas. Write some, such as '
            '"1, 1.5, 2".'
        )
    return tuple(dict.fromkeys(sizes))


def latent_columns(seconds: float) -> int:
    """Columns of latents in so many seconds, rounded."""
    return round(seconds * AUFFUSION.sample_rate / (AUFFUSION.hop_length * PIXELS_PER_LATENT))


class Examples(nn.Module):
    """The diffusion model: examples as parameters of one leaf module, which ComfyUI's memory manager counts and moves."""

    dtype = torch.float32

    def __init__(self, groups: list[Tensor], **arrangement: Any) -> None:
        super().__init__()
        self.count = len(groups)
        for index, group in enumerate(groups):
            self.register_parameter(f"examples_{index}", nn.Parameter(group.to(self.dtype), requires_grad=False))
        self.arrangement = arrangement

    @property
    def denoiser(self) -> ExampleDenoiser:
        return ExampleDenoiser([self.get_parameter(f"examples_{index}").data for index in range(self.count)], **self.arrangement)

    def forward(self, latents: Tensor, sigma: Tensor) -> Tensor:
        """x0 (B, C, H, W) of latents = x0 + sigma n; sigma (B,). Stops when the user cancels."""
        rows = self.examples_0.shape[-2]
        if latents.shape[-2] != rows:
            raise ValueError(
                f"{NODE}: it is given {latents.shape[-2] * PIXELS_PER_LATENT} rows of pixels, and its examples have "
                f"{rows * PIXELS_PER_LATENT}. Start from EmptySpectrogramLatent with the view that is set here; choose parts of the canvas "
                "by masks (ConditioningSetMask), not by areas, which cut it."
            )
        return self.denoiser(latents, sigma, comfy.model_management.throw_exception_if_processing_interrupted)


class ExamplesConfig(comfy.supported_models_base.BASE):
    """Of Stable Diffusion 1.x's latents, and of no UNet. Without `context_dim` any prompt passes where its width is checked."""

    latent_format = comfy.latent_formats.SD15
    unet_config = {"disable_unet_model_creation": True}
    memory_usage_factor = 1.0


class ExamplesModel(comfy.model_base.BaseModel):
    """A model for every sampler of ComfyUI that answers with the denoiser's own x0."""

    def __init__(self, examples: Examples, device: torch.device) -> None:
        super().__init__(ExamplesConfig(ExamplesConfig.unet_config), device=device)
        self.diffusion_model = examples
        self.said = False

    def _apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):  # noqa: B006  (core's)
        # Core would turn the sigma into the nearest of a thousand timesteps and back, and the estimate into noise and back.
        if len(set(transformer_options.get("cond_or_uncond", ()))) > 1 and not self.said:
            self.said = True
            logger.info("%s: it reads no prompt, so a cfg other than 1 changes nothing but the time it takes. Set its cfg to 1.", NODE)
        one, none = (torch.full_like(x[:, :1, :1, :1], value, dtype=torch.float32) for value in (1.0, 0.0))
        sigma = t.float()
        signal = self.model_sampling.noise_scaling(sigma, none, one).clamp(min=SMALLEST_SIGNAL)  # 1, but for flow matching
        noise = self.model_sampling.noise_scaling(sigma, one, none)
        return self.diffusion_model(x.float() / signal, (noise / signal).flatten())

    def extra_conds(self, **kwargs):
        return {}  # of a prompt nothing is used

    def memory_required(self, input_shape, cond_shapes={}):  # noqa: B006  (core's signature)
        return self.diffusion_model.denoiser.step_bytes(input_shape[0], input_shape[-1])


def examples_model(
    pictures: Tensor,
    vae: comfy.sd.VAE,
    arrangement: Arrangement,
    like: comfy.model_patcher.ModelPatcher | None = None,
    view: str = "none",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> comfy.model_patcher.ModelPatcher:
    """The MODEL of pictures (B, h, w) in 0..1, each scaled to the height of the view's canvas, in each size, mirrored too if so arranged.

    like: a MODEL whose latent space and noise schedule it has; SD 1.x's without one. Raises ValueError where the VAE makes other latents.
    """
    latent_format = comfy.latent_formats.SD15() if like is None else like.get_model_object("latent_format")
    rows, channels = canvas_height(view), latent_format.latent_channels
    encoder = _Encoder(vae, latent_format, FORMATS[view].silence)
    widths = _widths(pictures, arrangement, rows)
    variants = len(pictures) * (1 + arrangement.mirror)
    gap = latent_columns(arrangement.gap) if arrangement.repeat else 0
    _say_memory(len(pictures), variants, widths, arrangement, gap, channels * rows // PIXELS_PER_LATENT)
    total, done, by_width = variants * len(widths) * len(arrangement.offsets), 0, {}
    for width in widths:
        for batch in _scaled(pictures, width, rows, arrangement.mirror):
            for offset in arrangement.offsets:
                comfy.model_management.throw_exception_if_processing_interrupted()
                latents = encoder.latents(batch, arrangement, gap, offset)
                by_width.setdefault(latents.shape[-1], []).append(latents)
                done += len(batch)
                progress(done, total)
    groups = [torch.cat(group) for group in by_width.values()]
    space = encoder.space(groups, arrangement)
    examples = Examples(
        groups,
        window=max(1, latent_columns(arrangement.coherence)) if arrangement.coherence > 0 else 0,
        repeat=arrangement.repeat,
        gap=gap if arrangement.negative_space == "open" else 0,  # else it lies in the latents
        space=space,
        temperature=arrangement.temperature,
    )
    model = ExamplesModel(examples, comfy.model_management.unet_offload_device())
    if like is not None:
        model.latent_format = latent_format
        model.model_sampling = copy.deepcopy(like.get_model_object("model_sampling"))
    return comfy.model_patcher.ModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=comfy.model_management.unet_offload_device()
    )


def no_text(like: comfy.model_patcher.ModelPatcher | None = None) -> list:
    """A CONDITIONING for a model that reads none: core does not call a model that has no entry at all."""
    width = TEXT_WIDTH if like is None else conditioning_inputs.text_width(like) or TEXT_WIDTH
    return [[torch.zeros(1, 1, width), {}]]


def _widths(pictures: Tensor, arrangement: Arrangement, rows: int) -> list[int]:
    """Columns of the pictures in each size, whole latents; sizes that come out alike count once."""
    height, width = pictures.shape[1:]
    if height > rows:
        logger.info("%s: examples of %d x %d pixels are scaled to %d rows, the height of the canvas.", NODE, width, height, rows)
    widths = [max(1, round(width * rows / height * size / PIXELS_PER_LATENT)) * PIXELS_PER_LATENT for size in arrangement.sizes]
    if max(widths) > LONGEST:
        raise ValueError(
            f"{NODE}: examples of {width} x {height} pixels would be {max(widths)} columns wide at {rows} rows; the most are {LONGEST}. "
            "Crop them, or take smaller sizes."
        )
    return list(dict.fromkeys(widths))


def _say_memory(pictures: int, variants: int, widths: list[int], arrangement: Arrangement, gap: int, values: int) -> None:
    """Log what the latents will take, `values` a column. Raises ValueError where so much memory is not free."""
    moved = 0 if arrangement.gap_in_latents else len(arrangement.offsets) - 1  # those lie in a latent more
    columns = sum(len(arrangement.offsets) * (width // PIXELS_PER_LATENT + gap * arrangement.gap_in_latents) + moved for width in widths)
    needed, free = 4 * values * variants * columns, comfy.model_management.get_free_memory(torch.device("cpu"))
    number = variants * len(widths) * len(arrangement.offsets)
    logger.info("%s: %d examples (of %d pictures in %d sizes), %.1f MiB.", NODE, number, pictures, len(widths), needed / 2**20)
    if 2 * needed > free:  # parts and their whole
        raise ValueError(
            f"{NODE}: {number} examples (of {pictures} pictures in {len(widths)} sizes) would take {2 * needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free. Take fewer pictures or sizes, or shorter ones."
        )


def _scaled(pictures: Tensor, width: int, rows: int, mirror: bool) -> Iterator[Tensor]:
    """Pictures (n, rows, width), some at a time, each followed by its mirror image."""
    step = max(1, ENCODED_AT_ONCE // (1 + mirror))
    for some in pictures.split(step):
        if some.shape[1:] != (rows, width):
            some = F.interpolate(some[:, None], (rows, width), mode="bicubic", antialias=True)[:, 0].clamp(0.0, 1.0)
        yield torch.stack([some, some.flip(-1)], dim=1).flatten(0, 1) if mirror else some


class _Encoder:
    """Pictures as latents in a model's scale, each encoded within what lies beside it."""

    def __init__(self, vae: comfy.sd.VAE, latent_format: Any, silence: float = 0.0) -> None:
        self.vae, self.latent_format, self.silence = vae, latent_format, silence
        channels = getattr(vae, "latent_channels", latent_format.latent_channels)
        if channels != latent_format.latent_channels:
            raise ValueError(
                f"{NODE}: vae makes latents of {channels} channels, and the model's have {latent_format.latent_channels}. {OTHER_FAMILY}"
            )

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, C, h / 8, w / 8) of pictures (B, h, w) in 0..1."""
        latents = self.vae.encode(pictures[..., None].expand(-1, -1, -1, 3).contiguous())
        height, width = (side // PIXELS_PER_LATENT for side in pictures.shape[1:])
        expected = (len(pictures), self.latent_format.latent_channels, height, width)
        if tuple(latents.shape) != expected:
            raise ValueError(
                f"{NODE}: vae makes latents of {'x'.join(map(str, latents.shape))}, and the model's are {'x'.join(map(str, expected))}. "
                f"{OTHER_FAMILY}"
            )
        if not inputs.finite(latents):
            raise ValueError(f"{NODE}: vae makes latents that are NaN or infinite. Start ComfyUI with --fp32-vae, or choose another VAE.")
        return self.latent_format.process_in(latents.float().cpu())

    def latents(self, pictures: Tensor, arrangement: Arrangement, gap: int, offset: int = 0) -> Tensor:
        """(B, C, h / 8, w / 8) of pictures (B, h, w), moved to the right by `offset` pixels.

        With black or edge space and repetition, the gap of so many latent columns lies in them too; else a moved one is a latent longer.
        """
        if arrangement.gap_in_latents:
            pictures = self._with_gap(pictures, gap * PIXELS_PER_LATENT, arrangement.negative_space)
            columns = torch.arange(-CONTEXT, pictures.shape[-1] + CONTEXT) - offset
            framed = pictures[..., columns % pictures.shape[-1]]  # it goes on from end to end
        else:
            black = arrangement.negative_space == "black"
            beside = (CONTEXT + offset, CONTEXT + -offset % PIXELS_PER_LATENT)
            framed = F.pad(pictures, beside, value=self.silence) if black else F.pad(pictures, beside, mode="replicate")
        border = CONTEXT // PIXELS_PER_LATENT
        return self.encode(framed)[..., border:-border]

    def _with_gap(self, pictures: Tensor, gap: int, negative_space: str) -> Tensor:
        if negative_space == "black":
            return F.pad(pictures, (0, gap), value=self.silence)
        end, start = pictures[..., -1:], pictures[..., :1]
        return torch.cat([pictures, end.expand(-1, -1, gap - gap // 2), start.expand(-1, -1, gap // 2)], dim=-1)

    def space(self, groups: list[Tensor], arrangement: Arrangement) -> Space:
        """What lies beside an example; the gap of a repeated one lies in its latents already, but for open space."""
        if arrangement.negative_space == "open":
            columns = torch.cat([group.movedim(0, -1).flatten(-2) for group in groups], dim=-1)  # (C, H, all columns)
            mean = columns.mean(-1)
            return Gaussian(mean, max(1.0, float((columns - mean[..., None]).square().mean())))
        if arrangement.repeat or arrangement.negative_space == "edge":
            return EDGE
        rows = groups[0].shape[-2] * PIXELS_PER_LATENT
        black = self.encode(torch.full((1, rows, 2 * CONTEXT), self.silence))[0]
        return black[..., math.floor(black.shape[-1] / 2)]
