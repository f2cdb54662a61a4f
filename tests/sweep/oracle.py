"""What counts as right: a finite result of the right shape, or one error that names node, input and remedy before any model has worked."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

RESULT, REFUSAL = "result", "refusal"
RAW, SILENT, VAGUE, LATE = "raw message", "silently wrong", "vague refusal", "late refusal"
FAULTS = (RAW, SILENT, VAGUE, LATE)

BEYOND_FULL_SCALE = 1.0 + 1e-4
WORDS = ("latents", "noise mask", "positive", "negative", "expert", "examples", "view")
"""What a joint guider calls that which came by sockets of other nodes."""
OF_A_MODEL = re.compile(r"NaN|infinite")
SENTENCE = re.compile(r"[.?!](?:\s|$)|; ")


@dataclass(frozen=True)
class Outcome:
    """What came of one case. `where` is the line that raised, in the pack or nearest to it."""

    kind: str
    text: str = ""
    where: str = ""

    @property
    def is_fault(self) -> bool:
        return self.kind in FAULTS

    @property
    def signature(self) -> tuple[str, str, str]:
        """Alike for what is probably one fault: without numbers and quoted values."""
        return self.kind, self.where, re.sub(r"'[^']*'|\"[^\"]*\"|\[[^]]*\]|\([^)]*\)|-?\d[\d.e+]*|nan|inf", "_", self.text)[:160]


def judge(
    nodes: Mapping[str, Sequence[str]], node: str, outputs: Sequence[Any], call: Callable[[], Sequence[Any]], work: Callable[[], int]
) -> Outcome:
    """Call `node`, and judge what it gives by its schema's `outputs`, or what it raises by the names of inputs in `nodes`.

    `work` counts evaluations of models so far.
    """
    before = work()
    try:
        results = call()
    except (ValueError, FileNotFoundError) as error:
        return refusal(nodes, node, str(error), worked=work() > before, where=_where(error))
    except Exception as error:
        return Outcome(RAW, f"{type(error).__name__}: {error}", _where(error))
    for output, value in zip(outputs, results, strict=False):
        if complaint := wrong_in(output.get_io_type(), value):
            return Outcome(SILENT, f"{output.id or output.display_name}: {complaint}")
    return Outcome(RESULT)


def refusal(nodes: Mapping[str, Sequence[str]], node: str, text: str, worked: bool, where: str) -> Outcome:
    """Whether an error names a node, an input of it and what to do, and came before the work.

    The node may be the one that made what is wrong. What a model gave (NaN) can only be told of when it has worked.
    """
    named, _, body = text.partition(": ")
    if named not in nodes:
        return Outcome(RAW, f"ValueError: {text}", where)
    names = [re.escape(name).replace("_", "[_ ]") for name in (*nodes[named], *nodes[node], *WORDS)]
    if not re.search(rf"\b({'|'.join(names)})\b", body):
        return Outcome(VAGUE, f"names no input: {text}", where)
    if len(SENTENCE.findall(text)) < 2:
        return Outcome(VAGUE, f"names no remedy: {text}", where)
    return Outcome(LATE if worked and not OF_A_MODEL.search(text) else REFUSAL, text, where)


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if re.search(r"images-that-sound/|/(nodes|bridge|itsound_core)/\w+\.py", frame.filename)]
    frame = (ours or frames)[-1]
    return f"{'/'.join(frame.filename.rsplit('/', 2)[-2:])}:{frame.lineno}"


def wrong_in(kind: str, value: Any) -> str | None:
    """What is wrong with an output of that type; None where nothing is."""
    if type(value).__name__ == "ExecutionBlocker":
        return None
    return CHECKS[kind](value) if kind in CHECKS else None


def _picture(value: Any) -> str | None:
    if value.ndim != 4 or value.shape[-1] not in (1, 3, 4) or 0 in value.shape:
        return f"shape {tuple(value.shape)}"
    low, high = value.float().aminmax()
    return None if low >= 0.0 and high <= 1.0 else f"values from {low:g} to {high:g}"


def _sound(value: Any) -> str | None:
    waveform = value["waveform"]
    if waveform.ndim != 3 or 0 in waveform.shape:
        return f"shape {tuple(waveform.shape)}"
    if not isinstance(value["sample_rate"], int) or value["sample_rate"] <= 0:
        return f"rate {value['sample_rate']!r}"
    return None if bool(waveform.isfinite().all()) else "NaN or infinite samples"


def _latent(value: Any) -> str | None:
    samples = value["samples"]
    if samples.ndim != 4 or 0 in samples.shape:
        return f"shape {tuple(samples.shape)}"
    return None if bool(samples.isfinite().all()) else "NaN or infinite latents"


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"{type(value).__name__} for text"
    return f"text {value[:60]!r}" if re.search(r"\b(nan|inf)\b", value) else None


def _conditioning(value: Any) -> str | None:
    return None if value and all(torch.isfinite(entry[0]).all() for entry in value) else "empty or NaN"


def _video(value: Any) -> str | None:
    return None if value.get_duration() > 0 else "no length"


def _scores(value: Any) -> str | None:
    return None if bool(torch.isfinite(torch.cat([value.picture, value.sound])).all()) else "NaN scores"


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "IMAGE": _picture,
    "AUDIO": _sound,
    "LATENT": _latent,
    "STRING": _text,
    "CONDITIONING": _conditioning,
    "VIDEO": _video,
    "SCORES": _scores,
}
