"""What counts as right: a finite result of the right shape, or one error that names node, input and remedy before any model has worked.

What a result has to do with the inputs is told in promises.py; what had to be refused, in `hopeless`.
"""

from __future__ import annotations

import math
import numbers
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import torch

RESULT, REFUSAL = "result", "refusal"
RAW, SILENT, VAGUE, LATE, UNJUST = "raw message", "silently wrong", "vague refusal", "late refusal", "unjust refusal"
FAULTS = (RAW, SILENT, VAGUE, LATE, UNJUST)

BEYOND_ANY_SOUND = 2.0**31
"""Samples that some node may have made of 32-bit integers; a node that promises full scale is held to it in promises.py."""
OF_A_MODEL = re.compile(r"NaN|infinite")
ACTS = (
    "accept add allow ask bring change check choose close connect copy crop cut decode delete disconnect divide download draw empty "
    "encode enter free give install keep leave load lower make move name put raise remove rename render restart resize rotate run "
    "save set shorten start take turn type update upgrade use wait write"
)
REMEDY = re.compile(
    rf"(?:[.?!:;,]\s|\b(?:and|or|then)\s)(?:(?:and|or|then|else|either|first)\s)?(?:{'|'.join(ACTS.split())})\b\W+\w", re.IGNORECASE
)
"""What to do: an order after the beginning of a sentence, or of a part of one."""
PYTHON = re.compile(
    r"object has no attribute|unsupported operand|is not (subscriptable|iterable|callable)|object is not|index out of range|out of bounds"
    r"|cannot be multiplied|invalid literal|Expected .* (to|but)|size of tensor|must match|(positional|keyword) argument|KeyError|Traceback"
    r"|could not convert|can't convert|cannot reshape|mat1|dimension out of range|not supported between"
)
CALLED: Mapping[str, tuple[str, ...]] = {
    "latent_image": ("latents", "noise mask", "batch_index", "canvas"),
    "view": ("latents", "rows"),
    "guider": ("latents", "noise mask", "positive", "negative", "expert", "model"),
    "examples": ("example",),
} | {f"{side}{prompt}": (f"{side}model", "hooks") for side in ("", "image_", "audio_") for prompt in ("positive", "negative")}
"""What errors call an input beside its name."""
OF_EXPERTS = ("positive", "negative", "expert", "examples", "latents", "noise mask", "batch_index")
"""What the errors of a joint guider call that which came by sockets of other nodes."""


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


@dataclass(frozen=True)
class Asked:
    """What is known of a case.

    bad: inputs that no node can take, so that there can be no result. odd: those that are not as a rule given; None where that is not
    known. nan: whether NaN came in, so that no model is needed to find it. promised: what is wrong with results, by what came in.
    """

    bad: Sequence[str] = ()
    odd: Sequence[str] | None = None
    nan: bool = False
    promised: Callable[[Sequence[Any]], str | None] = lambda results: None


def judge(
    nodes: Mapping[str, Sequence[str]],
    node: str,
    outputs: Sequence[Any],
    call: Callable[[], Sequence[Any]],
    work: Callable[[], int],
    asked: Asked = Asked(),
) -> Outcome:
    """Call `node`, and judge what it gives by its schema's `outputs`, or what it raises by the names of inputs in `nodes`.

    `work` counts evaluations of models so far.
    """
    before = work()
    try:
        results = call()
    except (ValueError, FileNotFoundError) as error:
        return refusal(nodes, node, str(error), work() > before, _where(error), asked)
    except Exception as error:
        return Outcome(RAW, f"{type(error).__name__}: {error}", _where(error))
    if len(results) != len(outputs):
        return Outcome(SILENT, f"{len(results)} results for {len(outputs)} outputs")
    for output, value in zip(outputs, results, strict=True):
        if complaint := wrong_in(output.get_io_type(), value):
            return Outcome(SILENT, f"{output.id or output.display_name}: {complaint}")
    if asked.bad:
        return Outcome(SILENT, f"a result in spite of {', '.join(asked.bad)}")
    complaint = asked.promised(results)
    return Outcome(SILENT, complaint) if complaint else Outcome(RESULT)


def refusal(nodes: Mapping[str, Sequence[str]], node: str, text: str, worked: bool, where: str, asked: Asked = Asked()) -> Outcome:
    """Whether an error names a node, an input of it and what to do, came before the work, and had a reason.

    The node may be the one that made what is wrong. What a model gave (NaN) can only be told of when it has worked.
    """
    named, _, body = text.partition(": ")
    if named not in nodes or PYTHON.search(body):
        return Outcome(RAW, f"ValueError: {text}", where)
    if not _names(
        [*nodes[named], *nodes[node], *(OF_EXPERTS if "image_positive" in nodes[named] or "guider" in nodes[node] else ())], body
    ):
        return Outcome(VAGUE, f"names no input: {text}", where)
    if not REMEDY.search(body):
        return Outcome(VAGUE, f"names no remedy: {text}", where)
    if worked and (asked.nan or not OF_A_MODEL.search(text)):
        return Outcome(LATE, text, where)
    if asked.odd is not None and not asked.odd:
        return Outcome(UNJUST, text, where)
    guilty = {*asked.bad, *(asked.odd or ())}
    if guilty and not _names([name for one in guilty for name in (one, *CALLED.get(one, ()))], text):
        return Outcome(VAGUE, f"{' or '.join(sorted(guilty))} is to blame: {text}", where)
    return Outcome(REFUSAL, text, where)


def _names(names: Sequence[str], text: str) -> bool:
    """Whether one of them stands in the text, its words perhaps apart: "the image model's positive conditioning"."""
    return bool(re.search(rf"\b({'|'.join(re.escape(name).replace('_', '(?:_| (?:[^ ]+ ){0,3}?)') for name in names)})\b", text))


def hopeless(inputs: Sequence[Any], given: Mapping[str, Any]) -> list[str]:
    """Of what a node is given, the inputs of which no result can be made: beyond a widget's range, or nothing of a socket's kind."""
    return [widget.id for widget in inputs if widget.id in given and _is_hopeless(widget, given[widget.id])]


def _is_hopeless(widget: Any, value: Any) -> bool:
    kind = widget.get_io_type()
    if kind in ("INT", "FLOAT"):
        if not isinstance(value, numbers.Integral if kind == "INT" else numbers.Real) or math.isnan(value):
            return True
        number: Any = value  # a Real has an order that its type does not tell of
        return not (-math.inf if widget.min is None else widget.min) <= number <= (math.inf if widget.max is None else widget.max)
    if kind == "COMBO":
        return value not in widget.options if isinstance(value, str) else True
    if kind == "BOOLEAN":
        return not (isinstance(value, numbers.Real) and value in (0, 1))
    if kind in ("STRING", "COLOR"):
        return not isinstance(value, str)
    if widget.optional and value is None:
        return False
    if kind in ("IMAGE", "AUDIO", "LATENT", "CONDITIONING", *MADE_OF):
        try:
            return not _can_be(kind, value)
        except (AttributeError, KeyError, TypeError, IndexError):
            return True
    return False


def _can_be(kind: str, value: Any) -> bool:
    if kind == "IMAGE":
        return value.ndim == 4 and value.shape[-1] in (1, 3, 4) and 0 not in value.shape and not value.is_complex() and not has_nan(value)
    if kind == "AUDIO":
        return (
            isinstance(value, Mapping)
            and value["waveform"].ndim == 3
            and 0 not in value["waveform"].shape
            and float(value["sample_rate"]) >= 1
        )
    if kind == "LATENT":
        return (
            isinstance(value, Mapping)
            and hasattr(value["samples"], "is_nested")
            and (value["samples"].is_nested or 0 not in value["samples"].shape)
        )
    if kind == "CONDITIONING":
        return all(isinstance(entry[1], Mapping) for entry in value) and not isinstance(value, str)
    return _made_of(kind, value) is None


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Those in it, also in its lists and mappings."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from (tensor for one in value.values() for tensor in tensors(one))
    elif isinstance(value, (list, tuple)):
        yield from (tensor for one in value for tensor in tensors(one))


def has_nan(value: Any) -> bool:
    """Whether a tensor in it holds NaN or infinity."""
    return any(not bool(tensor.isfinite().all()) for tensor in tensors(value) if tensor.is_floating_point())


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if re.search(r"images-that-sound/|/(nodes|bridge|itsound_core)/\w+\.py", frame.filename)]
    frame = (ours or frames)[-1]
    return f"{'/'.join(frame.filename.rsplit('/', 2)[-2:])}:{frame.lineno}"


def wrong_in(kind: str, value: Any) -> str | None:
    """What is wrong with an output of that type; None where nothing is."""
    if type(value).__name__ == "ExecutionBlocker":
        return None
    return CHECKS[kind](value)


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
    if has_nan(waveform):
        return "NaN or infinite samples"
    return f"samples of up to {waveform.double().abs().max():g}" if bool((waveform.double().abs() > BEYOND_ANY_SOUND).any()) else None


def _latent(value: Any) -> str | None:
    samples = value["samples"]
    if samples.ndim != 4 or 0 in samples.shape:
        return f"shape {tuple(samples.shape)}"
    return "NaN or infinite latents" if has_nan(samples) else None


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"{type(value).__name__} for text"
    return f"text {value[:60]!r}" if re.search(r"\b(nan|inf)\b", value) else None


def _conditioning(value: Any) -> str | None:
    return None if value and all(torch.isfinite(entry[0]).all() for entry in value) else "empty or NaN"


def _video(value: Any) -> str | None:
    return None if value.get_duration() > 0 else "no length"


def _scores(value: Any) -> str | None:
    if not len(value.picture) == len(value.sound) == len(value.image_prompts) == len(value.audio_prompts):
        return "not as many of each"
    return None if bool(torch.isfinite(torch.cat([value.picture, value.sound])).all()) else "NaN scores"


MADE_OF: Mapping[str, tuple[str, ...]] = {
    "MODEL": ("model.diffusion_model", "model_options", "get_model_object", "clone"),
    "CLIP": ("tokenize", "encode_from_tokens", "clone"),
    "VAE": ("encode", "decode", "latent_channels"),
    "GUIDER": ("sample", "model_patcher"),
    "VOCODER": ("patcher.model.forward", "patcher.load_device", "name"),
    "SCORER": ("picture.model.forward", "sound.model.forward", "embeddings"),
    "SCORES": ("picture", "sound", "table"),
    "DEEPFLOYD_IF": ("stage_1.unet.forward", "stage_2.unet.forward"),
}
"""What a socket's value has, by which it is known."""


def _made_of(kind: str, value: Any) -> str | None:
    for name in MADE_OF[kind]:
        try:
            attrgetter(name)(value)
        except AttributeError:
            return f"a {type(value).__name__}, which has no {name}"
    return None


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "IMAGE": _picture,
    "AUDIO": _sound,
    "LATENT": _latent,
    "STRING": _text,
    "CONDITIONING": _conditioning,
    "VIDEO": _video,
} | {kind: partial(_made_of, kind) for kind in MADE_OF}
CHECKS["SCORES"] = _scores
