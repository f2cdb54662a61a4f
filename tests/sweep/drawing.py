# ruff: noqa: E501  (a table of values)
"""Every node, given from its own schema what its sockets may bring: in half of the cases only what is right, else one or two odd things."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .oracle import Asked, Outcome, has_nan, hopeless, judge, wrong_in
from .promises import broken, is_lively
from .values import (
    ANY_TEXT,
    BY_TYPE,
    LATENT_CHANNELS,
    LATENT_ROWS,
    NUMBERS_IN_NO_WIDGET,
    ROWS,
    Canvas,
    Model,
    Picture,
    Plain,
    Sound,
    Text,
    Value,
)  # fmt: skip

REPO = Path(__file__).resolve().parent.parent.parent
SMALL: Mapping[str, tuple[Any, ...]] = {
    "steps": (2, 3), "iterations": (2, 3), "warm_start": (0, 1), "candidates": (1, 2, 3), "keepers": (1, 2), "budget": (1.0, 2.5), "crops": (1, 2),
    "hidden": (8, 16), "seconds": (0.64, 1.28, 2.56), "batch_size": (1, 2), "columns": (0, 8), "start_step": (0, 1), "fps": (1.0, 5.0),
    "cfg": (1.0, 3.0), "image_cfg": (1.0, 3.0), "audio_cfg": (1.0, 3.0), "start": (0.0, 0.1), "count": (1, 2), "gap": (0.0, 0.16),
    "coherence": (0.0, 0.2, 3.3), "checkpoint_name": ("", "run"), "filename_prefix": ("sweep/x",), "sizes": ("1", "1, 0.5"), "line_color": ("#ff4020", "white"),
    "low_hz": (0.0, 100.0), "high_hz": (8000.0, 4000.0), "sampler_name": ("ddim", "euler", "dpmpp_2m_sde", "euler_cfg_pp"), "temperature": (1.0,),
    "scheduler": ("ddim_uniform", "karras", "normal"), "shifts": ("8 px",), "likeness": (1.0, 0.0), "vae_interval": (1, 2), "noise_level": (50,),
    "pair": (), "view": ("none", "none", "two-row square", "Riffusion"), "seed": (0, 2**64 - 1), "learning_rate": (1e-4, 0.02), "lambda_sds": (0.4, 0.0),
}  # fmt: skip
"""What a widget is mostly given: its default would take the time of real work."""
SMALL_IN: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "LoadDeepFloydIF": {"stage_1_name": ("diffusers/stage-1",), "stage_2_name": ("diffusers/stage-2",)},
    "LoadScorers": {"picture_scorer_name": ("scorers/pictures",), "sound_scorer_name": ("scorers/sounds",)},
    "LoadColorModel": {"color_model_name": ("embedded", "diffusers/colour")},
    "LoadDualUNets": {"image_model_name": ("diffusers/picture", "embedded"), "audio_model_name": ("diffusers/sound", "embedded")},
    "EmptySpectrogramLatent": {"seconds": (0.16, 0.64, 1.0, 1.28, 3.3, 10.24, 29.99), "batch_size": (1, 2, 3, 7)},
    "ImprintBaseline": {"seconds": (0.0, 0.2)},
    "ImprintRecording": {"seconds": (0.0, 0.2), "high_hz": (8000.0, 3000.0)},
    "ViewCanvas": {"view": ("none", "two-row square", "Riffusion")},
}
"""The same of one node."""
GOOD_IN: Mapping[tuple[str, str], SearchStrategy[Value]] = {
    ("FactorizedColorize", "spectrogram"): st.builds(
        Picture,
        batch=st.sampled_from([1, 1, 1, 2]),
        channels=st.sampled_from([1, 3, 4]),
        dtype=st.sampled_from(["float32", "float16"]),
        fill=st.sampled_from(["noise", "zeros"]),
    ),
    ("ExamplesAsModel", "examples"): st.builds(Picture, width=st.sampled_from([16, 33, 64]), batch=st.sampled_from([1, 2])),
    ("LoadDeepFloydIF", "clip"): st.just(Plain(None)),  # a T5-XXL takes gigabytes
    ("ScoreImageAndSound", "images"): st.builds(Picture, width=st.sampled_from([256, 300]), fill=st.sampled_from(["noise", "zeros"])),
    ("ExamplesToAudio", "recording"): st.builds(
        Sound,
        samples=st.sampled_from([20011, 24000]),
        channels=st.sampled_from([1, 2]),
        rate=st.sampled_from([16000, 44100, 48000]),
        batch=st.sampled_from([1, 2]),
        dtype=st.sampled_from(["float32", "int16"]),
        form=st.sampled_from(["audio", "more keys"]),
    ),
    ("KeepBest", "images"): st.builds(Picture, batch=st.just(2)),
    ("KeepBest", "audio"): st.builds(
        Sound,
        batch=st.just(2),
        rate=st.sampled_from([16000, 48000]),
        dtype=st.sampled_from(["float32", "int16"]),
        channels=st.sampled_from([1, 2]),
        form=st.sampled_from(["audio", "more keys"]),
    ),
    ("KeepBest", "latents"): st.builds(Canvas, batch=st.just(2)),
    ("KeeperSearch", "latent_image"): st.builds(Canvas, width=st.sampled_from([3, 4, 8])),
    ("ViewCanvas", "canvas"): st.builds(
        Picture,
        width=st.sampled_from([2, 64, 128]),
        channels=st.sampled_from([1, 3, 4]),
        batch=st.sampled_from([1, 2]),
        dtype=st.sampled_from(["float32", "float16"]),
        fill=st.sampled_from(["noise", "overshoot"]),
    ),
}
"""What a node's own socket is as a rule given, where not what every node's is."""
TALL: Mapping[str, str] = {"two-row square": "square", "Riffusion": "riffusion"}
"""Views whose canvas is of twice the rows, and what the sweep's models of them are called."""
REPEATS = 3
"""Draws for each case that is run: Hypothesis draws many twice."""
COSTLY = ("steps", "iterations", "candidates", "crops", "hidden", "seconds", "batch_size", "fps")
"""Widgets whose largest value would take hours or all memory: it is not tried, and what lies beyond it is."""


def node_classes(pack: ModuleType) -> dict[str, type[io.ComfyNode]]:
    """Every node of the pack by its id."""
    files = sorted(path.stem for path in (REPO / "nodes").glob("*.py") if "\nNODES = [" in path.read_text(encoding="utf-8"))
    classes = [node for file in files for node in importlib.import_module(f"{pack.__name__}.nodes.{file}").NODES]
    return {node.define_schema().node_id: node for node in classes}


def strategies_of(node_id: str, widget: Any) -> tuple[SearchStrategy[Value], SearchStrategy[Value]]:
    """What this input is as a rule given, and what is odd."""
    kind = widget.get_io_type()
    if isinstance(widget, io.MultiType.Input):
        kinds = [BY_TYPE[one] for one in kind.split(",") if one in BY_TYPE]
        return st.one_of([good for good, _ in kinds]), st.one_of([odd for _, odd in kinds])
    if kind in BY_TYPE:
        good, odd = BY_TYPE[kind]
        return GOOD_IN.get((node_id, widget.id), good), odd
    small = SMALL_IN.get(node_id, {}).get(widget.id) or SMALL.get(widget.id) or ()
    if isinstance(widget, (io.Int.Input, io.Float.Input)):
        edges = [widget.min] if widget.id in COSTLY else [widget.min, widget.max]
        one = 1 if isinstance(widget, io.Int.Input) else 0.001
        beyond = [bound + sign * one for bound, sign in ((widget.min, -1), (widget.max, 1)) if bound is not None]
        return st.sampled_from((*small, *_default(widget))).map(Plain), st.sampled_from([*edges, *beyond]).map(Plain) | NUMBERS_IN_NO_WIDGET
    if isinstance(widget, io.Boolean.Input):
        return st.booleans().map(Plain), NUMBERS_IN_NO_WIDGET
    if isinstance(widget, io.Combo.Input):
        options = list(widget.options or (None,))
        good = [option for option in (*small, widget.default) if small and option in options] or options
        return st.sampled_from(good).map(Plain), st.sampled_from(options).map(Plain) | ANY_TEXT | NUMBERS_IN_NO_WIDGET
    if isinstance(widget, (io.String.Input, io.Color.Input)):
        return st.sampled_from((*small, *_default(widget)) if small else ("a castle", "bell ringing")).map(Plain), ANY_TEXT
    raise NotImplementedError(f"{widget.id}: a socket of type {kind}; say in values.BY_TYPE what it may be given")


def _default(widget: Any) -> tuple[Any, ...]:
    """Its default, if a test may wait for that, and for as many steps as go with it."""
    return () if widget.id in (*COSTLY, "start_step", "keepers", "warm_start") or widget.default is None else (widget.default,)


class Case(dict[str, Value]):
    """What a node is given, and which of it is odd."""

    odd: tuple[str, ...] = ()


@st.composite
def cases_of(draw: Any, node: type[io.ComfyNode], right: bool = False) -> Case:
    """What a node is given, by its schema: all `right`, or with one or two inputs odd. An optional socket may be left open."""
    schema = node.define_schema()
    names = [widget.id for widget in schema.inputs]
    odd = [] if right else draw(st.lists(st.sampled_from(names), min_size=1, max_size=min(2, len(names)), unique=True))
    case = Case()
    case.odd = tuple(odd)
    for widget in schema.inputs:
        good, strange = strategies_of(schema.node_id, widget)
        if widget.id in odd:
            case[widget.id] = draw(strange)
        elif not widget.optional or isinstance(widget, io.WidgetInput) or draw(st.booleans()):
            case[widget.id] = draw(good)
    go_together(case, odd)
    return case


def go_together(case: dict[str, Any], odd: list[str]) -> dict[str, Any]:
    """The case with those sockets that are not odd brought to what the others need.

    DeepFloyd IF reads other text, and takes no VAE; views other than none have canvases and guiders of their own.
    """
    if view := tall_view(case):
        case |= {name: tall(value, view) for name, value in case.items() if name not in odd}
    right = {name for name in case if name not in odd}
    if case.get("view") == Plain("Riffusion") and "vocoder" in right:
        case.pop("vocoder")
    if {"canvas", "inverse"} <= right and isinstance(case["canvas"], Picture) and case["inverse"] == Plain(value=True):
        case["canvas"] = replace(case["canvas"], height=2 * ROWS if case.get("view") == Plain("Riffusion") else ROWS)
    if {"keepers", "candidates", "budget"} <= right:
        keepers = case["keepers"].value
        case |= {name: Plain(max(keepers, case[name].value)) for name in ("candidates", "budget")}
    if {"image_model_name", "audio_model_name"} <= right and case["image_model_name"] == Plain("embedded"):  # or their latents differ
        case["audio_model_name"] = Plain("embedded")
    elif {"image_model_name", "audio_model_name"} <= right:
        case["audio_model_name"] = Plain("diffusers/sound")
    for model, texts in {"model": ("positive", "negative"), "image_model": ("image_positive", "image_negative")}.items():
        if model not in case:
            continue
        deepfloyd = case[model] == Model("deepfloyd")
        if deepfloyd:
            case |= {name: Text(tokens=77) for name in texts if name not in odd}
        if "steps" in case and "vae_interval" in case and "vae" not in odd:  # the colouring of any model
            case.pop("vae", None)
            case |= {} if deepfloyd or case[model] == Model("pixel_model") else {"vae": Model("vae")}
        if "canvas" in case and "canvas" not in odd and (deepfloyd or case[model] == Model("pixel_model")):
            case |= {"canvas": Plain("network"), "seconds": Plain(2.56)}
    return case


def tall_view(case: Mapping[str, Value]) -> str:
    """The view that a case has, if its canvas is of twice the rows, else nothing."""
    view = case.get("view")
    return view.value if isinstance(view, Plain) and isinstance(view.value, str) and view.value in TALL else ""


def tall(value: Value, view: str) -> Value:
    """A canvas, its picture or a guider as that view has it."""
    if isinstance(value, Picture):
        return replace(value, height=2 * ROWS)
    if isinstance(value, Canvas):
        return replace(value, height=2 * LATENT_ROWS)
    return Model(f"{TALL[view]}_guider") if value == Model("guider") else value


def run(models: Any, classes: Mapping[str, type[io.ComfyNode]], node_id: str, case: Mapping[str, Value]) -> Outcome:
    """One case, as ComfyUI's executor would call the node; a guider is then sampled with, because only then it looks at the canvas."""
    node = classes[node_id]
    schema = node.define_schema()
    shutil.rmtree(Path(folder_paths.get_output_directory(), "sds"), ignore_errors=True)  # a run of that name would be gone on with
    given = {name: value.build(models) for name, value in case.items()}
    rows = (2 if tall_view(case) else 1) * LATENT_ROWS
    shown: dict[str, Any] = {}

    def call() -> list[Any]:
        with torch.inference_mode():
            output = node.PREPARE_CLASS_CLONE(None).execute(**given)
            results = list(output.args or ())
            shown.update(output.ui or {})
            if schema.outputs and schema.outputs[0].get_io_type() == "GUIDER":
                sampled(results[0], rows)
            return results

    if models.names is None:
        models.names = {name: [widget.id for widget in each.define_schema().inputs] for name, each in classes.items()}
    asked = Asked(
        hopeless(schema.inputs, given), getattr(case, "odd", None), has_nan(given), lambda results: broken(schema, given, results, shown)
    )
    return judge(models.names, node_id, schema.outputs, call, lambda: models.work, asked)


def sampled(guider: Any, rows: int) -> Any:
    import comfy.samplers

    latents = torch.zeros(1, LATENT_CHANNELS, rows, 8)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    samples = guider.sample(
        noise, latents, comfy.samplers.sampler_object("euler"), torch.tensor([10.0, 1.0, 0.0]), disable_pbar=True, seed=0
    )
    complaint = wrong_in("LATENT", {"samples": samples})
    if samples.shape != latents.shape or not is_lively(samples):
        complaint = (
            complaint or f"{'constant ' * (not is_lively(samples))}latents of the shape {tuple(samples.shape)}, not {tuple(latents.shape)}"
        )
    if complaint:
        raise AssertionError(f"sampling gave {complaint}")
    return samples


def explore(
    models: Any,
    classes: Mapping[str, type[io.ComfyNode]],
    node_id: str,
    examples: int,
    number: int = 0,
    begin: Callable[[dict[str, Value]], None] = lambda case: None,
    end: Callable[[Outcome], None] = lambda outcome: None,
) -> list[tuple[dict[str, Value], Outcome]]:
    """Run `examples` drawn cases, and give each with its outcome; `number` is the seed, `begin` and `end` are told of each as it runs."""
    found: list[tuple[dict[str, Value], Outcome]] = []
    drawn: set[str] = set()
    assert models.written

    def try_out(right: bool, until: int) -> None:
        @seed(number)
        @settings(
            max_examples=REPEATS * examples, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        @given(cases_of(classes[node_id], right))
        def one(case: dict[str, Value]) -> None:
            if len(found) < until and repr(case) not in drawn:
                drawn.add(repr(case))
                begin(case)
                found.append((case, run(models, classes, node_id, case)))
                end(found[-1][1])

        one()

    try_out(right=True, until=examples // 2)  # of a loader there are fewer
    try_out(right=False, until=examples)
    return found
