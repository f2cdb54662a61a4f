# ruff: noqa: E501  (tables of values)
"""What a socket may be given, as descriptions that are drawn by Hypothesis, print short, and are built only when they are used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

NAN, INFINITY = math.nan, math.inf
LATENT_CHANNELS, LATENT_ROWS, TEXT_WIDTH, ROWS = 4, 32, 32, 256


class Value:
    """Something that is built from the sweep's models when a node is given it."""

    def build(self, models: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Plain(Value):
    """The value itself."""

    value: Any

    def build(self, models: Any) -> Any:
        return self.value


@dataclass(frozen=True)
class Model(Value):
    """One of the models by its name in `models.Models`."""

    name: str

    def build(self, models: Any) -> Any:
        return getattr(models, self.name)


def _filled(shape: tuple[int, ...], dtype: torch.dtype, fill: str, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * (high - low) + low
    if fill in FILLS:
        values.fill_(FILLS[fill])
    elif fill in SPOTS and values.numel():
        values.view(-1)[values.numel() // 2] = SPOTS[fill]
    if dtype.is_floating_point or dtype.is_complex:
        return values.to(dtype)
    full = 1 if dtype == torch.bool else torch.iinfo(dtype).max
    return (values.nan_to_num().clamp(-1, 1).double() * full).to(dtype)


FILLS = {"zeros": 0.0, "ones": 1.0, "all NaN": NAN, "1e30": 1e30, "0..255": 200.0, "negative": -1.0}
SPOTS = {"one NaN": NAN, "one infinite": INFINITY, "one -infinite": -INFINITY, "overshoot": 1.4}
ODD_FILLS = (*FILLS, *SPOTS)
NOT_FINITE = ("all NaN", "one NaN", "one infinite")
"""Fills of what is right but for them: no node may take it, nor wait for a model to find it."""


@dataclass(frozen=True)
class Picture(Value):
    """An IMAGE."""

    height: int = ROWS
    width: int = 64
    channels: int = 3
    batch: int = 1
    dtype: str = "float32"
    fill: str = "noise"
    view: str = "contiguous"

    def build(self, models: Any) -> torch.Tensor:
        shape = (self.batch, self.height, self.width, self.channels)
        if self.view == "no batch":
            shape = shape[1:]
        elif self.view == "5-D":
            shape = (1, *shape)
        image = _filled(shape, getattr(torch, self.dtype), self.fill)
        if self.view == "expanded":
            return image[..., :1].expand(shape)
        return image.transpose(1, 2).contiguous().transpose(1, 2) if self.view == "strided" else image


@dataclass(frozen=True)
class Sound(Value):
    """An AUDIO."""

    samples: int = 10240
    channels: int = 1
    batch: int = 1
    rate: Any = 16000
    dtype: str = "float32"
    fill: str = "noise"
    form: str = "audio"

    def build(self, models: Any) -> Any:
        waveform = _filled((self.batch, self.channels, self.samples), getattr(torch, self.dtype), self.fill, -0.5, 0.5)
        if self.fill == "out of phase" and self.channels == 2:
            waveform[:, 1] = -waveform[:, 0]
        forms: dict[str, Callable[[], Any]] = {
            "audio": lambda: {"waveform": waveform, "sample_rate": self.rate},
            "no rate": lambda: {"waveform": waveform},
            "no waveform": lambda: {"sample_rate": self.rate},
            "list": lambda: {"waveform": waveform.tolist(), "sample_rate": self.rate},
            "2-D": lambda: {"waveform": waveform[0], "sample_rate": self.rate},
            "4-D": lambda: {"waveform": waveform[None], "sample_rate": self.rate},
            "tensor": lambda: waveform,
            "more keys": lambda: {"waveform": waveform, "sample_rate": self.rate, "path": None},
        }
        return forms[self.form]()


@dataclass(frozen=True)
class Canvas(Value):
    """A LATENT."""

    height: int = LATENT_ROWS
    width: int = 8
    channels: int = LATENT_CHANNELS
    batch: int = 1
    dtype: str = "float32"
    fill: str = "zeros"
    form: str = "latent"
    batch_index: Any = None
    mask: Any = None
    """Shape of a noise mask, or (shape, fill)."""

    def build(self, models: Any) -> Any:
        samples = _filled((self.batch, self.channels, self.height, self.width), getattr(torch, self.dtype), self.fill, -1.0, 1.0)
        if self.form == "5-D":
            samples = samples[:, :, None]
        elif self.form == "3-D":
            samples = samples[0]
        elif self.form == "nested":
            import comfy.nested_tensor

            samples = comfy.nested_tensor.NestedTensor([samples, samples[..., 0]])
        elif self.form == "numbers":
            samples = samples.tolist()
        latent: dict[str, Any] = {} if self.form == "no samples" else {"samples": samples}
        if self.batch_index is not None:
            latent["batch_index"] = list(self.batch_index)
        if self.mask is not None:
            shape, fill = self.mask
            latent["noise_mask"] = _filled(shape, torch.float32, fill)
        return samples if self.form == "tensor" else latent


@dataclass(frozen=True)
class Text(Value):
    """A CONDITIONING; each of `options` is (name, value), with "mask" a shape and a fill."""

    tokens: int = 7
    width: int = TEXT_WIDTH
    batch: int = 1
    entries: int = 1
    fill: str = "noise"
    form: str = "conditioning"
    options: tuple[tuple[str, Any], ...] = ()

    def build(self, models: Any) -> Any:
        embeddings = _filled((self.batch, self.tokens, self.width), torch.float32, self.fill, -1.0, 1.0)
        options = {name: self._option(name, value, models) for name, value in self.options}
        forms: dict[str, Callable[[], Any]] = {
            "conditioning": lambda: [[embeddings, dict(options)] for _ in range(self.entries)],
            "tensor": lambda: embeddings,
            "no options": lambda: [[embeddings]],
            "2-D": lambda: [[embeddings[0], dict(options)]],
            "None inside": lambda: [[None, dict(options)]],
            "tuple": lambda: [(embeddings, dict(options))],
            "text": lambda: "a castle",
        }
        return forms[self.form]()

    @staticmethod
    def _option(name: str, value: Any, models: Any) -> Any:
        if name == "mask":
            return _filled(value[0], torch.float32, value[1])
        if name == "hooks":
            return models.hooks(value)
        return list(value) if name == "area" and isinstance(value, list) else value


# Strategies ----------------------------------------------------------------------------------------------------------------------------

SOMETHING_ELSE = st.sampled_from([Plain(None), Plain("text"), Plain(3), Plain([]), Plain({}), Plain(()), Model("picture_tensor")])
"""What no socket takes, but one of a type of its own name by a wildcard's link may bring."""

NUMBERS_IN_NO_WIDGET = st.sampled_from(
    [Plain(value) for value in (NAN, INFINITY, -INFINITY, 2**70, -(2**70), 1e308, -1, 0, None, "3", "", True, 2.5, [], {}, 1j, b"1")]
) | st.sampled_from([Plain(torch.tensor(1)), Plain(torch.tensor(0.5)), Plain(torch.tensor([1, 2])), Plain(torch.tensor(NAN))])

ODD_TEXTS = st.sampled_from(
    ["", " ", "\n", "\0", "a\0b", "a\nb", "\ud800", "\x07\x1b[31m", "‮اللغة العربية", "🎵" * 40, "a castle, " * 120, "(((((", "((a:1e9))", "<b>",
     "embedding:nothing", "{a|b}", "%date%", "%width%" * 50, "../../up", "/etc/x", "C:\\x", "CON", "a" * 300, "a/" * 400, "x.", "~", "a:b", "#zzz"]
).map(Plain) | st.text(max_size=20).map(Plain)  # fmt: skip
ANY_TEXT = ODD_TEXTS | st.sampled_from([Plain(None), Plain(5), Plain(b"bytes"), Plain(["a"]), Plain(NAN)])

FLOATS = ("float32", "float16", "bfloat16", "float64")
DTYPES = (*FLOATS, "uint8", "int16", "int64", "bool", "complex64")

GOOD_PICTURES = st.builds(
    Picture, width=st.sampled_from([64, 72, 128]), channels=st.sampled_from([1, 3, 4]), batch=st.sampled_from([1, 1, 2]), dtype=st.sampled_from(FLOATS),
    fill=st.sampled_from(["noise", "zeros", "ones", "overshoot"]), view=st.sampled_from(["contiguous", "expanded", "strided"]),
)  # fmt: skip
ODD_PICTURES = (
    st.builds(
        Picture, height=st.sampled_from([0, 1, 7, 128, 256, 512, 2000]), width=st.sampled_from([0, 1, 2, 5, 6, 16, 64, 300]),
        channels=st.sampled_from([0, 1, 2, 3, 4, 5]), batch=st.sampled_from([0, 1, 2, 3]), dtype=st.sampled_from(FLOATS),
    )
    | st.builds(Picture, dtype=st.sampled_from(DTYPES), fill=st.sampled_from(ODD_FILLS), view=st.sampled_from(["contiguous", "no batch", "5-D"]))
    | st.builds(Picture, width=st.sampled_from([1, 64, 1000]), batch=st.sampled_from([1, 2]))
    | st.builds(Picture, fill=st.sampled_from(NOT_FINITE))
    | SOMETHING_ELSE
)  # fmt: skip

RATES = [1000, 8000, 11025, 16000, 22050, 44100, 47999, 48000, 96001, 192000]
GOOD_SOUNDS = st.builds(
    Sound, samples=st.sampled_from([20011, 20480, 24000]), channels=st.sampled_from([1, 2, 2, 8]), rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
    dtype=st.sampled_from(["float32", "float64", "float16", "int16", "uint8", "int32"]), fill=st.sampled_from(["noise", "noise", "zeros", "out of phase"]),
    batch=st.sampled_from([1, 1, 2]), form=st.sampled_from(["audio", "more keys"]),
)  # fmt: skip
ODD_SOUNDS = (
    st.builds(
        Sound, samples=st.sampled_from([0, 1, 2, 159, 160, 1601, 10240, 50000]), channels=st.sampled_from([0, 1, 2, 3, 8]),
        batch=st.sampled_from([0, 1, 2, 3]), rate=st.sampled_from(RATES),
    )
    | st.builds(Sound, dtype=st.sampled_from(DTYPES), fill=st.sampled_from(ODD_FILLS), rate=st.sampled_from([16000, 44100]))
    | st.builds(Sound, rate=st.sampled_from([NAN, INFINITY, 0, -1, 16000.0, 16000.5, "16000", None, True, 10**12, torch.tensor(16000), 1, 47981]))
    | st.builds(Sound, form=st.sampled_from(["no rate", "no waveform", "list", "2-D", "4-D", "tensor", "more keys"]))
    | st.builds(Sound, fill=st.sampled_from(NOT_FINITE))
    | SOMETHING_ELSE
)  # fmt: skip

GOOD_CANVASES = st.builds(
    Canvas, width=st.sampled_from([2, 3, 8, 13]), batch=st.sampled_from([1, 2]), fill=st.sampled_from(["zeros", "noise"]),
    dtype=st.sampled_from(["float32", "float16"]),
)  # fmt: skip
MASKS = [((1, 1, 32, 8), "noise"), ((1, 32, 8), "noise"), ((1, 256, 64), "ones"), ((0, 32, 8), "noise"), ((1, 1, 0, 8), "noise"),
         ((32, 8), "noise"), ((1, 1, 32, 8), "one NaN"), ((2, 1, 32, 8), "noise"), ((3, 1, 5, 5), "zeros"), ((8,), "noise"),
         ((1, 4, 32, 8), "noise"), ((1, 1, 1, 32, 8), "noise")]  # fmt: skip
ODD_CANVASES = (
    st.builds(
        Canvas, height=st.sampled_from([0, 1, 3, 16, 31, 32, 64]), width=st.sampled_from([0, 1, 2, 5, 8]), fill=st.sampled_from(["zeros", "noise"]),
        channels=st.sampled_from([0, 1, 3, 4, 16]), batch=st.sampled_from([0, 1, 2, 3]),
    )
    | st.builds(Canvas, dtype=st.sampled_from(DTYPES), fill=st.sampled_from(ODD_FILLS))
    | st.builds(Canvas, form=st.sampled_from(["5-D", "3-D", "nested", "numbers", "no samples", "tensor"]), fill=st.sampled_from(["zeros", "noise"]))
    | st.builds(Canvas, batch=st.sampled_from([1, 2]), batch_index=st.sampled_from([(), (0,), (5, 9), (1, 2, 3), (-1,), (10**9, 0), (0.5,), ("a",), (None, 1)]))
    | st.builds(Canvas, mask=st.sampled_from(MASKS), batch=st.sampled_from([1, 2]), fill=st.sampled_from(["zeros", "noise"]))
    | st.builds(Canvas, fill=st.sampled_from(NOT_FINITE))
    | SOMETHING_ELSE
)  # fmt: skip

GOOD_TEXTS = st.builds(
    Text, tokens=st.sampled_from([1, 7, 77, 154]), fill=st.sampled_from(["noise", "zeros"]), entries=st.sampled_from([1, 2])
)
AREAS = [(32, 8, 0, 0), (0, 0, 0, 0), (4, 4, 28, 4), (32, 8, 32, 8), (99, 99, 0, 0), (-1, -1, -1, -1), ("percentage", 0.5, 0.5, 0.5, 0.5),
         ("percentage", 0.0, 0.0, 0.0, 0.0), ("percentage", 1.0, 1.0, 1.0, 1.0), ("percentage", NAN, 1.0, 0.0, 0.0), (4, 4, 4, 40), (2, 2, 99, 0)]  # fmt: skip
OPTIONS = (
    st.sampled_from(AREAS).map(lambda area: (("area", area),))
    | st.sampled_from([((1, 32, 8), "ones"), ((1, 256, 64), "noise"), ((0, 32, 8), "noise"), ((1, 0, 0), "noise"), ((1, 32, 8), "zeros"),
                       ((1, 32, 8), "one NaN"), ((2, 32, 8), "ones"), ((32, 8), "ones"), ((1, 7, 900), "ones")]).map(lambda mask: (("mask", mask),))
    | st.sampled_from([NAN, 0.0, -1.0, INFINITY, 1e30, None]).map(lambda strength: (("strength", strength),))
    | st.sampled_from([(0.0, 1.0), (1.0, 0.0), (0.5, 0.5), (NAN, 1.0), (-1.0, 2.0), (1.0, 1.0)]).map(lambda p: (("start_percent", p[0]), ("end_percent", p[1])))
    | st.just((("hooks", "lora"),))
    | st.just((("pooled_output", None),))
)  # fmt: skip
ODD_TEXT_CONDITIONINGS = (
    st.builds(
        Text, tokens=st.sampled_from([0, 1, 7, 1000]), width=st.sampled_from([0, 1, TEXT_WIDTH, 768, 2048]), batch=st.sampled_from([0, 1, 2, 3]),
        entries=st.sampled_from([0, 1, 2, 5]),
    )
    | st.builds(Text, fill=st.sampled_from(ODD_FILLS))
    | st.builds(Text, options=OPTIONS)
    | st.builds(Text, form=st.sampled_from(["tensor", "no options", "2-D", "None inside", "tuple", "text"]))
    | st.builds(Text, fill=st.sampled_from(NOT_FINITE))
    | SOMETHING_ELSE
)  # fmt: skip

MODELS = {"MODEL": ("image_model", "audio_model"), "VAE": ("vae",), "CLIP": ("image_clip",), "VOCODER": ("vocoder",), "SCORER": ("scorer",)}
MODELS |= {"GUIDER": ("guider",), "SCORES": ("scores",), "DEEPFLOYD_IF": ("deepfloyd",)}
ODD_MODELS = {
    "MODEL": ("inpainting", "sixteen_channels", "flow", "pixel_model", "wide_text", "nan_model", "windows", "bad_windows", "examples", "vae"),
    "VAE": ("nan_vae", "sixteen_channel_vae", "image_model", "image_clip"),
    "CLIP": ("vae", "image_model"),
    "GUIDER": ("core_guider", "no_guider", "image_model"),
    "VOCODER": ("nan_vocoder", "vae"),
    "SCORER": ("scores", "vae"),
    "SCORES": ("scorer", "nan_scores", "no_scores"),
    "DEEPFLOYD_IF": ("vae",),
}  # fmt: skip
BY_TYPE: Mapping[str, tuple[SearchStrategy[Value], SearchStrategy[Value]]] = {
    "IMAGE": (GOOD_PICTURES, ODD_PICTURES),
    "AUDIO": (GOOD_SOUNDS, ODD_SOUNDS),
    "LATENT": (GOOD_CANVASES, ODD_CANVASES),
    "CONDITIONING": (GOOD_TEXTS, ODD_TEXT_CONDITIONINGS),
} | {
    kind: (st.sampled_from(names).map(Model), st.sampled_from(ODD_MODELS[kind]).map(Model) | SOMETHING_ELSE)
    for kind, names in MODELS.items()
}
"""Of each kind of socket, what is as a rule taken, and what is as a rule not."""
