"""Ways to get a picture into a sound, with every setting."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Kind = TypeVar("Kind", bound="DataclassInstance")

SIZES = (1.0, 1.5, 2.0)
KINDS = {"int": int, "float": float, "str": str, "tuple[float, ...]": lambda text: tuple(map(float, text.split("+")))}


@dataclass(frozen=True)
class Way:
    """A way, as a record holds it.

    method: sound (no picture), imprint (of the sound alone), recording (imprinted by its own phase), photo (denoised from, as the template
    does), examples, onto (the example is an imprint of the sound alone, of `rho`, and not the picture), repair (an imprint denoised
    anew by the sound's model, `denoise`). coherence, gap: latent columns of 0.08 s; coherence 0 is the whole canvas. white, power: levels
    of the picture, white x picture^power, after its local contrast is raised by `detail` (1: what lies above the mean around it twice as
    far above). Below the timestep `late` the sound's weight is late_weight. agreement: by how much places are
    chosen by the sound's own estimate too, as a precision added to the noise's. after: rho of an imprint of the result with the examples
    where they lie on it.
    """

    method: str = "examples"
    rho: float = 0.0
    denoise: float = 1.0
    audio_weight: float = 0.5
    audio_guidance: float = 7.0
    image_guidance: float = 10.0
    coherence: int = 0
    sizes: tuple[float, ...] = SIZES
    gap: int = 8
    space: str = "black"
    white: float = 1.0
    power: float = 1.0
    detail: float = 0.0
    t_image: float = 1.0
    t_audio: float = 1.0
    late: int = 0
    late_weight: float = 1.0
    late_guidance: float = 0.0
    agreement: float = 0.0
    after: float = 0.0
    temperature: float = 1.0

    @property
    def name(self) -> str:
        """What differs from the defaults."""
        return named(self)


def parse(text: str) -> list[Way]:
    """The ways that method,key=value,... names: as many as a value has parts with / between them.

    Raises ValueError for an unknown key or a wrong value.
    """
    return changed(Way(), text)


def named(way: Any) -> str:
    """What of any dataclass with a `method` and settings differs from its defaults; what `changed` reads, with other commas."""
    parts = [f"{f.name}={getattr(way, f.name)}" for f in fields(way) if f.name != "method" and getattr(way, f.name) != f.default]
    return " ".join([way.method, *parts])


def changed(plain: Kind, text: str) -> list[Kind]:
    """The same of any dataclass with a `method` and settings, changed from `plain`."""
    method, *pairs = text.split(",")
    kinds = {f.name: KINDS[str(f.type)] for f in fields(plain)}
    keys, values = [], []
    for key, _, value in (pair.partition("=") for pair in pairs):
        if key not in kinds:
            raise ValueError(f"{text}: there is no setting {key!r}, but {', '.join(kinds)}.")
        keys.append(key)
        values.append([kinds[key](one) for one in value.split("/")])
    return [replace(plain, method=method, **dict(zip(keys, chosen, strict=True))) for chosen in product(*values)]
