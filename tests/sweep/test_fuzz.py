"""A sample of the sweep with fixed seeds: each node with a few drawn inputs ends in a right result or in one good error."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

pytest.importorskip("comfy_api.latest", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.utils  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy_api.latest import io  # noqa: E402

from sweep import fuzz, oracle  # noqa: E402
from sweep.drawing import cases_of, explore, node_classes  # noqa: E402
from sweep.models import Models  # noqa: E402

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


def test_the_sweep_knows_every_node_and_every_kind_of_socket(classes):
    assert set(fuzz.tasks(2.0)) == set(classes)
    for node in classes.values():
        cases_of(node)


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
        ("shapes cannot be multiplied", False, oracle.RAW),
    ],
)
def test_an_error_is_good_where_it_names_node_input_and_remedy_before_the_work(text, worked, kind):
    assert oracle.refusal(NODES, "KeepBest", text, worked, "").kind == kind


def test_a_result_is_right_where_it_is_finite_and_of_its_shape():
    assert oracle.wrong_in("IMAGE", torch.zeros(1, 8, 8, 3)) is None
    assert oracle.wrong_in("IMAGE", torch.full((1, 8, 8, 3), 1.2)) == "values from 1.2 to 1.2"
    assert oracle.wrong_in("LATENT", {"samples": torch.full((1, 4, 2, 2), torch.nan)}) == "NaN or infinite latents"
    assert oracle.wrong_in("AUDIO", {"waveform": torch.zeros(1, 1, 0), "sample_rate": 16000}) == "shape (1, 1, 0)"
    assert oracle.wrong_in("STRING", "0: mean difference nan dB") is not None
