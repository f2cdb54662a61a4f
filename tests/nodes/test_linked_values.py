"""What links bring to widgets: ComfyUI checks what is typed into a widget or chosen from its list, and nothing that comes over a link."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("comfy_api.latest", reason="COMFYUI_PATH does not name a ComfyUI folder")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from comfy_api.latest import io  # noqa: E402

REPO = Path(__file__).resolve().parent.parent.parent
NODE_FILES = sorted(path.stem for path in (REPO / "nodes").glob("*.py") if "\nNODES = [" in path.read_text(encoding="utf-8"))


@pytest.fixture(params=NODE_FILES)
def nodes(pack, request) -> list[type[io.ComfyNode]]:
    return importlib.import_module(f"{pack.__name__}.nodes.{request.param}").NODES


def widgets(node: type[io.ComfyNode], *kinds: type) -> Iterator[Any]:
    return (widget for widget in node.define_schema().inputs if isinstance(widget, kinds))


def refusal(node: type[io.ComfyNode], name: str, value: object) -> str:
    """What the node, as ComfyUI calls it, says of one value while all else is at its default and nothing is connected."""
    given = {one.id: getattr(one, "default", None) for one in node.define_schema().inputs}
    given |= {combo.id: combo.options[0] for combo in widgets(node, io.Combo.Input) if given[combo.id] is None and combo.options}
    with pytest.raises(ValueError) as error:
        node.PREPARE_CLASS_CLONE(None).execute(**given | {name: value})
    return str(error.value)


@pytest.mark.parametrize("value", ["no such choice", "", 7, None, torch.zeros(2), np.array(["none"])], ids=str)
def test_a_choice_that_is_in_no_list_is_refused_before_anything_else_is_looked_at(nodes, value):
    for node in nodes:
        name = node.define_schema().node_id
        for combo in widgets(node, io.Combo.Input):
            said = refusal(node, combo.id, value)
            shown = f'"{value}"' if isinstance(value, str) else " ".join(str(value).split())[:60]
            assert said.startswith(f"{name}: {combo.id} is {shown}"), said
            if not combo.options:  # as LoadDeepFloydIF's, before its folders are there: the first is all that can be told
                assert "; there is nothing to choose from" in said
                break
            assert f"; it is one of: {', '.join(combo.options)}. Change what is linked to it." in said


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        (io.Int.Input, "3", "a whole number from"),
        (io.Int.Input, 2.5, "a whole number from"),
        (io.Float.Input, "0.5", "a number from"),
        (io.Float.Input, float("nan"), "a number from"),
        (io.Float.Input, None, "a number from"),
        (io.Boolean.Input, "false", "true or false"),
        (io.Boolean.Input, 2, "true or false"),
        (io.Boolean.Input, None, "true or false"),
        (io.String.Input, 5, "text"),
        (io.String.Input, None, "text"),
        (io.Color.Input, 5, "text"),
    ],
)
def test_a_value_of_another_kind_is_refused_before_anything_else_is_looked_at(nodes, kind, value, wanted):
    for node in nodes:
        for widget in widgets(node, kind):
            name = node.define_schema().node_id
            assert re.match(f"{name}: {widget.id} is {value}; it is {wanted}.*Change what is linked to it", refusal(node, widget.id, value))


SOMETHING_ELSE = [None, "a castle", 3, [1], {}, torch.zeros(2)]
SOCKETS = ("MODEL", "CLIP", "VAE", "CONDITIONING", "GUIDER", "VOCODER", "SCORER", "SCORES", "DEEPFLOYD_IF")


@pytest.mark.parametrize("value", SOMETHING_ELSE, ids=lambda value: type(value).__name__)
def test_what_is_not_of_a_sockets_kind_is_refused_before_anything_is_loaded(pack, nodes, value):
    made_of = importlib.import_module(f"{pack.__name__}.bridge.inputs").MADE_OF
    for node in nodes:
        schema = node.define_schema()
        if not all(combo.options for combo in widgets(node, io.Combo.Input)):
            continue  # as LoadDeepFloydIF's, before its folders are there
        kinds = {socket.id: socket.get_io_type().split(",") for socket in schema.inputs}
        given = {one.id: getattr(one, "default", None) for one in schema.inputs}
        given |= {combo.id: combo.options[0] for combo in widgets(node, io.Combo.Input) if given[combo.id] is None and combo.options}
        given |= {name: SimpleNamespace(**dict.fromkeys(made_of[kind[0]])) for name, kind in kinds.items() if kind[0] in made_of}
        given |= {name: [] for name, kind in kinds.items() if kind == ["CONDITIONING"]}
        for socket in schema.inputs:
            if kinds[socket.id][0] not in SOCKETS or (value is None and socket.optional):
                continue
            with pytest.raises(ValueError) as refusal:
                node.PREPARE_CLASS_CLONE(None).execute(**given | {socket.id: value})
            found = "None" if value is None else f"a {type(value).__name__}"
            assert str(refusal.value).startswith(f"{schema.node_id}: {socket.id} is {found}, no {' or '.join(kinds[socket.id])}. Connect")


def test_every_widget_is_an_argument_of_its_node(nodes):
    """Else it would not be checked: what is looked at are the arguments."""
    for node in nodes:
        arguments = inspect.signature(node.execute).parameters.values()
        if not any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
            assert {widget.id for widget in node.define_schema().inputs} == {argument.name for argument in arguments}


def test_values_are_checked_without_making_the_nodes_inputs_anew(pack, monkeypatch):
    """KeeperSearch's take half a millisecond; a loader's would walk through all model folders."""
    node = importlib.import_module(f"{pack.__name__}.nodes.prompts").PaperPrompts
    node.GET_SCHEMA()  # as ComfyUI does when it loads a pack
    monkeypatch.setattr(node, "define_schema", lambda: pytest.fail("made anew"))
    assert len(node.PREPARE_CLASS_CLONE(None).execute(node.SCHEMA.inputs[0].options[1]).args) == 2


def test_a_file_that_came_while_the_server_runs_is_a_choice(loaders, models, monkeypatch):
    node = loaders.LoadVocoder
    node.GET_SCHEMA()
    folder = models / "vocoders" / "new"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr(loaders, "load_vocoder", lambda path: torch.nn.Identity() if path == folder else None)
    assert node.PREPARE_CLASS_CLONE(None).execute("vocoders/new").args[0].name == "vocoders/new"


@pytest.mark.parametrize("value", [1, True, np.True_, np.int64(1), 0.0])
def test_numbers_that_mean_true_or_false_are_taken(pack, value):
    node = importlib.import_module(f"{pack.__name__}.nodes.picture").ViewCanvas
    height = 256 if value else 512
    assert node.execute(torch.zeros(1, height, 64, 3), "two-row square", value).args[0].shape[1] == 768 - height


def test_a_loader_can_be_asked_whether_its_files_changed_before_a_link_has_brought_its_choice(nodes):
    """ComfyUI asks with None then; an exception would be a warning in its log, and the models would load anew at every run."""
    for node in nodes:
        if node.fingerprint_inputs.__func__ is not io.ComfyNode.fingerprint_inputs.__func__:
            given = {combo.id: None for combo in widgets(node, io.Combo.Input)}
            first, second = (node.fingerprint_inputs(**given) for _ in range(2))
            assert first == second
