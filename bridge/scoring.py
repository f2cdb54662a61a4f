"""Scores of pictures and sounds against their prompts, by models that ComfyUI's memory manager loads."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor

from ..itsound_core.captions import clean
from ..itsound_core.scoring import Embeddings, Scores
from . import picture_inputs

SMALLEST_PICTURE = 32
"""Pixels of the shorter side below which a picture shows nothing that could be scored."""

LINE_BREAK = re.compile(r"\r\n|\r|\n")
"""What Enter makes. str.splitlines also splits at a dozen characters that come with pasted text."""


@dataclass(frozen=True)
class Scorer:
    """What a SCORER socket carries: CLIP and CLAP, each `patcher.model` one of itsound_core.scoring's modules in float32."""

    picture: comfy.model_patcher.ModelPatcher
    sound: comfy.model_patcher.ModelPatcher

    def embeddings(self) -> tuple[Embeddings, Embeddings]:
        """What the two make of prompts, for as many calls of `score` as share them."""
        return Embeddings(self.picture.model), Embeddings(self.sound.model)


def score(
    scorer: Scorer,
    pictures: Tensor,
    samples: Tensor,
    rate: int,
    image_prompts: tuple[str, ...],
    audio_prompts: tuple[str, ...],
    on_sample: Callable[[], None] | None = None,
    node: str = "ScoreImageAndSound",
    embeddings: tuple[Embeddings, Embeddings] | None = None,
) -> Scores:
    """Scores of gray pictures (N, H, W) in 0..1 and waveforms (N, T) at `rate` Hz against their N prompts. Stops when the user cancels.

    embeddings: the scorer's, where an earlier call had the same prompts. Raises ValueError naming `node` where a score is NaN.
    """
    image_texts, audio_texts = embeddings or scorer.embeddings()
    comfy.model_management.load_models_gpu([scorer.picture, scorer.sound], force_full_load=True)
    found = []
    for picture, waveform, image_prompt, audio_prompt in zip(pictures, samples, image_prompts, audio_prompts, strict=True):
        comfy.model_management.throw_exception_if_processing_interrupted()
        seen = scorer.picture.model(picture, image_texts[image_prompt])
        heard = scorer.sound.model(waveform, rate, audio_texts[audio_prompt])
        found.append(torch.cat([seen, heard]))
        if on_sample is not None:
            on_sample()
    picture_scores, sound_scores = torch.stack(found).unbind(dim=1)
    if not torch.isfinite(torch.stack(found)).all():
        raise ValueError(f"{node}: a scorer gave NaN: its weights are damaged. Fetch the scorer again.")
    return Scores(picture_scores, sound_scores, image_prompts, audio_prompts)


def gray_pictures(images: Tensor, node: str) -> Tensor:
    """(B, H, W) in 0..1: the mean of the colours of an IMAGE at least as wide as high. Raises ValueError for one too small or too tall."""
    gray = picture_inputs.pixels(images, node, "images")[..., :3].mean(dim=-1)
    height, width = gray.shape[1:]
    if min(height, width) < SMALLEST_PICTURE:
        raise ValueError(
            f"{node}: images are {width} x {height} pixels; at least {SMALLEST_PICTURE} a side are needed to see anything in them. "
            "Use larger ones."
        )
    if height > width:
        raise ValueError(
            f"{node}: images are {width} x {height} pixels, taller than wide; a spectrogram is wide. Crop or rotate them first."
        )
    return gray


def one_line(text: str, node: str, socket: str) -> str:
    """A prompt with its line breaks as spaces, as a text encoder reads it. Raises ValueError where there is none."""
    if not clean(text):
        raise ValueError(f"{node}: {socket} is empty. Write the prompt that the samples were made from.")
    return " ".join(text.split())


def prompts_for(text: str, count: int, node: str, socket: str, one_a_line: bool) -> tuple[str, ...]:
    """The prompt of each of `count` samples: one for all, or with one_a_line a line each.

    Raises ValueError for no prompt, and where lines and samples are not as many.
    """
    if not one_a_line:
        return (one_line(text, node, socket),) * count
    lines = [" ".join(line.split()) for line in LINE_BREAK.split(text) if clean(line)]
    if len(lines) not in (1, count):
        raise ValueError(
            f"{node}: {socket} has {len(lines)} lines for {count} samples. Write a line for each sample, or one line for all, or turn "
            "prompt_per_line off: line breaks are spaces then."
        )
    return tuple(lines * count if len(lines) == 1 else lines)
