"""A sample of the sweep with fixed seeds: each node with a few drawn inputs ends in a right result or in one good error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("comfy_api.latest", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.utils  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy_api.latest import io  # noqa: E402

from sweep import fuzz, oracle  # noqa: E402
from sweep.drawing import explore, node_classes, strategies_of  # noqa: E402
from sweep.models import Models  # noqa: E402
from sweep.promises import PROMISES, broken  # noqa: E402
from sweep.values import MODELS  # noqa: E402

EXAMPLES = 8


@pytest.fixture(scope="module")
def models(pack: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """The sweep's models, and ComfyUI's folders in a temporary place."""
    places, folders = (
        dict(folder_paths.folder_names_and_paths),
        [folder_paths.get_directory_by_type(name) for name in ("output", "temp", "input")],
    )
    yield Models(pack, tmp_path_factory.mktemp("sweep"))
    folder_paths.folder_names_and_paths.update(places)
    folder_paths.filename_list_cache.clear()
    for setter, folder in zip(("output", "temp", "input"), folders, strict=True):
        getattr(folder_paths, f"set_{setter}_directory")(folder)
    comfy.utils.set_progress_bar_enabled(True)


@pytest.fixture(scope="module")
def classes(pack: ModuleType) -> dict[str, type[io.ComfyNode]]:
    return node_classes(pack)


def test_the_sweep_knows_every_node_and_every_kind_of_socket(models, classes):
    assert models.written
    assert set(fuzz.tasks(2.0)) == set(classes)
    for name, node in classes.items():
        schema = node.define_schema()
        for widget in schema.inputs:
            for strategy in strategies_of(name, widget):
                assert not strategy.is_empty
        kinds = {output.get_io_type() for output in schema.outputs or []}
        assert kinds <= set(oracle.CHECKS)
        assert name in PROMISES or not kinds & {"IMAGE", "AUDIO", "LATENT", "VIDEO", "SCORES"}, f"{name} promises nothing"


@pytest.mark.parametrize("node", fuzz.tasks(2.0))
def test_drawn_inputs_give_a_right_result_or_one_good_error(node, models, classes):
    faults = [(outcome, case) for case, outcome in explore(models, classes, node, EXAMPLES) if outcome.is_fault]
    assert not faults, "\n".join(f"{outcome.kind}: {outcome.text} ({outcome.where})\n  {case}" for outcome, case in faults)


# The oracle ----------------------------------------------------------------------------------------------------------------------------

NODES = {"KeepBest": ["count", "rule"], "LoadVocoder": ["vocoder_name"]}


@pytest.mark.parametrize(
    ("text", "worked", "kind"),
    [
        ("KeepBest: count is 0; it is a whole number from 1. Change what is linked to it.", False, oracle.REFUSAL),
        ("KeepBest: count is 0; it is a whole number from 1. Change what is linked to it.", True, oracle.LATE),
        ('LoadVocoder: vocoder_name is "x", and its sound is NaN. Choose another.', True, oracle.REFUSAL),
        ("KeepBest: nothing to keep. Keep more.", False, oracle.VAGUE),
        ("KeepBest: count is wrong", False, oracle.VAGUE),
        ("KeepBest: count is wrong. It failed.", False, oracle.VAGUE),
        ("KeepBest: no count. Sorry; bye.", False, oracle.VAGUE),
        ("KeepBest: no view. Choose another.", False, oracle.VAGUE),
        ("KeepBest: count: 'int' object has no attribute 'x'. Change it.", False, oracle.RAW),
        ("shapes cannot be multiplied", False, oracle.RAW),
    ],
)
def test_an_error_is_good_where_it_names_node_input_and_remedy_before_the_work(text, worked, kind):
    assert oracle.refusal(NODES, "KeepBest", text, worked, "").kind == kind


COUNT = "KeepBest: count is 0; it is a whole number from 1. Change what is linked to it."
OVERFLOW = "KeepBest: count makes NaN. Choose another."


@pytest.mark.parametrize(
    ("text", "worked", "asked", "kind"),
    [
        (COUNT, False, oracle.Asked(odd=["count"]), oracle.REFUSAL),
        (COUNT, False, oracle.Asked(odd=["rule"]), oracle.VAGUE),
        (COUNT, False, oracle.Asked(odd=["count", "rule"]), oracle.REFUSAL),
        (COUNT, False, oracle.Asked(odd=[]), oracle.UNJUST),
        (OVERFLOW, True, oracle.Asked(odd=["count"]), oracle.REFUSAL),
        (OVERFLOW, True, oracle.Asked(odd=["count"], nan=True), oracle.LATE),
    ],
)
def test_an_error_blames_what_was_odd_and_comes_late_only_for_nan_of_a_model(text, worked, asked, kind):
    assert oracle.refusal(NODES, "KeepBest", text, worked, "", asked).kind == kind


SOUND = {"waveform": torch.linspace(-0.5, 0.5, 20000).reshape(1, 1, -1), "sample_rate": 16000}
PICTURE = torch.linspace(0, 1, 256 * 100).reshape(1, 256, 100, 1).expand(2, -1, -1, 3)


def judged(*results: object, **asked: Any) -> str:
    outputs = (io.Image.Output("spectrogram"), io.Audio.Output("audio"))
    return oracle.judge({}, "TrimCanvas", outputs, lambda: list(results), lambda: 0, oracle.Asked(**asked)).text


def test_there_are_as_many_results_as_outputs_and_none_of_what_cannot_be():
    assert judged(PICTURE, SOUND) == ""
    assert judged(PICTURE) == "1 results for 2 outputs"
    assert judged(PICTURE, SOUND, bad=["columns"]) == "a result in spite of columns"


def test_what_no_result_can_be_made_of_is_known(classes):
    def hopeless(**given: object) -> list[str]:
        return oracle.hopeless(classes["TrimCanvas"].define_schema().inputs, given)

    assert hopeless(spectrogram=PICTURE, audio=SOUND, columns=3, view="none") == []
    assert hopeless(spectrogram=None, audio={}, columns=-1, view="x") == ["spectrogram", "audio", "columns", "view"]
    assert hopeless(spectrogram=PICTURE * torch.nan, audio=SOUND, columns=torch.tensor(1), view=None) == ["spectrogram", "columns", "view"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, None),
        ({"picture": PICTURE[:1, :, :90]}, "shape"),
        ({"picture": PICTURE[:, :, 10:]}, "other pixels"),
        ({"picture": PICTURE}, "shape"),
        ({"waveform": SOUND["waveform"][..., :14401]}, "shape"),
        ({"waveform": SOUND["waveform"][..., :14400] * 1000}, "other samples"),
        ({"waveform": torch.zeros(1, 2, 14400)}, "shape"),
        ({"sample_rate": 1}, "at 1 Hz"),
    ],
)
def test_a_result_keeps_what_its_node_promises(classes, change, complaint):
    given = {"spectrogram": PICTURE, "audio": SOUND, "columns": 10, "view": "none"}
    sound = {"waveform": SOUND["waveform"][..., :14400], "sample_rate": 16000}
    results = [change.pop("picture", PICTURE[:, :, :90]), sound | change]
    found = broken(classes["TrimCanvas"].define_schema(), given, results, {})
    assert found is None if complaint is None else complaint in found


def test_sound_of_a_picture_is_neither_silent_nor_beyond_full_scale(classes):
    def found(waveform: torch.Tensor) -> str | None:
        given = {"spectrogram": PICTURE[:1]}
        results = [{"waveform": waveform, "sample_rate": 16000}]
        return broken(classes["SpectrogramToAudio"].define_schema(), given, results, {})

    assert found(SOUND["waveform"][..., :16000]) is None
    assert "is the loudest" in (found(SOUND["waveform"][..., :16000] * 10) or "")
    assert "silent" in (found(torch.zeros(1, 1, 16000)) or "")


def test_a_file_that_is_said_to_be_saved_is_there(classes, models):
    schema, given = classes["SaveImageThatSounds"].define_schema(), {"image": PICTURE[:1], "audio": SOUND, "filename_prefix": "x"}
    with torch.inference_mode():
        output = classes["SaveImageThatSounds"].PREPARE_CLASS_CLONE(None).execute(**given)
    assert broken(schema, given, [], output.ui) is None
    for sound in Path(folder_paths.get_output_directory()).glob("x*.flac"):
        sound.unlink()
    assert "no file x_00001_.flac" in (broken(schema, given, [], output.ui) or "")


def test_a_custom_type_is_known_by_what_it_is_made_of(models):
    assert oracle.wrong_in("VOCODER", models.vocoder) is None
    assert oracle.wrong_in("VOCODER", object()) == "a object, which has no patcher.model.forward"
    assert set(MODELS) <= set(oracle.MADE_OF)


def test_a_result_is_right_where_it_is_finite_and_of_its_shape():
    assert oracle.wrong_in("IMAGE", torch.zeros(1, 8, 8, 3)) is None
    assert oracle.wrong_in("IMAGE", torch.full((1, 8, 8, 3), 1.2)) == "values from 1.2 to 1.2"
    assert oracle.wrong_in("LATENT", {"samples": torch.full((1, 4, 2, 2), torch.nan)}) == "NaN or infinite latents"
    assert oracle.wrong_in("AUDIO", {"waveform": torch.zeros(1, 1, 0), "sample_rate": 16000}) == "shape (1, 1, 0)"
    assert oracle.wrong_in("STRING", "0: mean difference nan dB") is not None
