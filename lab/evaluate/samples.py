"""What samples are asked for: lists of prompt pairs, and the seed of each sample.

Sample k of every row has the k-th pair of its list and noise of its own seed, so that rows differ in the method alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from itsound_core import presets

from ..train.prompts import SUBJECTS


@dataclass(frozen=True)
class Prompt:
    """A prompt, and the class that the judges know it by, or None."""

    text: str
    label: str | None = None


@dataclass(frozen=True)
class Sample:
    """What sample `index` is asked to show and to sound like."""

    index: int
    seed: int
    image_class: str | None
    audio_class: str | None
    image_prompt: str
    audio_prompt: str


@dataclass(frozen=True)
class PromptList:
    """Pairs in their order, and the seed of sample 0; after the last pair comes the first again, with further seeds."""

    pairs: tuple[tuple[Prompt, Prompt], ...]
    seed: int = 0

    def samples(self, first: int, count: int, seeds: int = 1) -> list[Sample]:
        """`count` samples from number `first` on; each pair has so many `seeds` before the next one comes."""
        listed = []
        for index in range(first, first + count):
            image, audio = self.pairs[index // seeds % len(self.pairs)]
            listed.append(Sample(index, self.seed + index, image.label, audio.label, image.text, audio.text))
        return listed


def crossed(images: list[Prompt], audios: list[Prompt]) -> tuple[tuple[Prompt, Prompt], ...]:
    """Every pair once, such that every prompt has come equally often whenever all pictures have come round."""
    return tuple((images[i], audios[(i + turn) % len(audios)]) for turn, i in product(range(len(audios)), range(len(images))))


def of_classes(side: str, template: str, wording: int) -> list[Prompt]:
    """A prompt for each class that the embedded models know."""
    return [Prompt(template.format(wordings[wording]), label) for label, wordings in SUBJECTS[side].items()]


LISTS = {
    "test": PromptList(crossed(of_classes("image", "a painting of {}, grayscale", 1), of_classes("audio", "{}", 0))),
    # Other prompts and other seeds, to choose settings by.
    "development": PromptList(
        crossed(of_classes("image", "a drawing of {}", 0), of_classes("audio", "the sound of {}", 1)), seed=1_000_000
    ),
    "paper": PromptList(crossed([Prompt(p) for p in presets.PAPER_IMAGE_PROMPTS], [Prompt(p) for p in presets.PAPER_AUDIO_PROMPTS])),
    "paper-pairs": PromptList(tuple((Prompt(pair.image), Prompt(pair.audio)) for pair in presets.PAPER_PAIRS)),
}
