"""Prompts: the paper's (Tables 4 and 5), those of the official examples beyond it, and the fixed lists for the embedded models with their
nearest twins of the paper's pairs."""

from __future__ import annotations

from typing import NamedTuple


class PromptPair(NamedTuple):
    """What a canvas shall look like and what it shall sound like."""

    image: str
    audio: str


class Example(NamedTuple):
    """A published example: its prompts and the official code's seed."""

    prompts: PromptPair
    seed: int


class Twin(NamedTuple):
    """A pair of the paper's and the nearest thing that the embedded models know; `exact` is False where that is only something related."""

    paper: PromptPair
    embedded: PromptPair
    exact: bool


PAPER_THINGS = ("castles", "dogs", "kittens", "tigers", "auto racing game", "mountains", "a garden", "a forest", "a farm", "a beach")
PAPER_IMAGE_PROMPTS = tuple(f"a painting of {thing}, grayscale" for thing in PAPER_THINGS)
PAPER_AUDIO_PROMPTS = (
    "dog barking",
    "cat meowing",
    "bird chirping, tweeting",
    "tiger growling",
    "church bell ringing",
    "race car, auto racing",
    "train whistling",
    "fireworks banging",
    "people cheering",
    "playing acoustic guitar",
)
PAPER_PAIRS = (
    PromptPair("a painting of castle towers, grayscale", "bell ringing"),
    PromptPair("a painting of cute dogs, grayscale", "dog barking"),
    PromptPair("a painting of a blooming garden with many birds, grayscale", "birds singing sweetly"),
    PromptPair("a painting of furry kittens, grayscale", "a kitten meowing for attention"),
    PromptPair("a painting of auto racing game, grayscale", "a race car passing by and disappearing"),
    PromptPair("a painting of trains, grayscale", "train whistling"),
    PromptPair("a painting of tigers, grayscale", "tiger growling"),
)

OFFICIAL_EXAMPLES = (
    Example(PromptPair("a pond full of water lilies, grayscale, lithograph style", "frog croaking"), 2024),
    Example(PromptPair("a painting of corgis, grayscale, black background", "dog barking"), 2034),
    Example(PromptPair("a painting of horse heads, grayscale, black background", "horse neighing"), 1234),
    Example(PromptPair("a castle with bell towers, grayscale, lithograph style", "bell ringing"), 1234),  # its configuration's default
)

EMBEDDED_IMAGE_PROMPTS = (
    "a drawing of castles",
    "a drawing of flowers",
    "a drawing of trees",
    "a drawing of mountains",
    "a drawing of fish",
    "a drawing of ships",
    "a drawing of cars",
    "a drawing of trains",
    "a drawing of guitars",
    "a drawing of skulls",
)
EMBEDDED_AUDIO_PROMPTS = (
    "church bell ringing",
    "playing acoustic guitar",
    "violin playing",
    "trumpet playing",
    "xylophone playing",
    "drums beating",
    "bird chirping",
    "dog barking",
    "people applauding",
    "fireworks banging",
)
_EMBEDDED_TWINS = (
    (PromptPair("a drawing of castle towers", "church bell ringing"), True),
    (PromptPair("a drawing of dogs", "dog barking"), True),
    (PromptPair("a drawing of flowers", "birds chirping"), True),
    (PromptPair("a drawing of cats", "violin playing"), False),
    (PromptPair("a drawing of cars", "car engine running"), True),
    (PromptPair("a drawing of trains", "engine running"), False),
    (PromptPair("a drawing of cats", "explosion"), False),
)
EMBEDDED_TWINS = tuple(Twin(paper, embedded, exact) for paper, (embedded, exact) in zip(PAPER_PAIRS, _EMBEDDED_TWINS, strict=True))


def title(pair: PromptPair) -> str:
    """What is seen and what is heard, without the words of style."""
    subject = pair.image.removeprefix("a painting of ").removeprefix("a drawing of ").split(",")[0]
    return f"{subject} / {pair.audio}"


TITLED_PAIRS = {title(pair): pair for pair in (*PAPER_PAIRS, *(example.prompts for example in OFFICIAL_EXAMPLES))}
TITLED_PAIRS |= {f"embedded models: {title(twin.embedded)}": twin.embedded for twin in EMBEDDED_TWINS}
"""Every pair by the title under which it is offered. Workflows store these titles: none may change or go."""

FROM_PAIR = "from the pair"
TABLE_4_IMAGES: dict[str, str] = dict(zip(PAPER_THINGS, PAPER_IMAGE_PROMPTS, strict=True))
"""Table 4's image prompts by what they show. The same holds for these titles."""


def chosen(pair: str, table_4_image: str = FROM_PAIR, table_4_audio: str = FROM_PAIR) -> PromptPair:
    """The prompts of a title of TITLED_PAIRS, each of them replaced by one of Table 4 where one is chosen."""
    image, audio = TITLED_PAIRS[pair]
    return PromptPair(TABLE_4_IMAGES.get(table_4_image, image), audio if table_4_audio == FROM_PAIR else table_4_audio)
