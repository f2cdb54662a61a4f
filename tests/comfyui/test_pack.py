"""The pack in a real server: loaded by ComfyUI's own loader, listed and served."""

from __future__ import annotations

import importlib
import json
import re
import urllib.parse
from types import ModuleType
from typing import Any

import pytest

from launch import workflow
from launch.environment import NEWEST, PACK_NAME, REPO, QuickstartError
from launch.server import Server
from tools import locales

NODE_FILES = sorted(path.stem for path in (REPO / "nodes").glob("*.py") if "\nNODES = [" in path.read_text(encoding="utf-8"))
BLUEPRINTS = REPO / "subgraphs"


def test_every_node_is_registered(object_info: dict[str, Any], pack: ModuleType) -> None:
    files = [importlib.import_module(f"{pack.__name__}.nodes.{name}") for name in NODE_FILES]
    defined = {node.define_schema().node_id for file in files for node in file.NODES}
    assert locales.of_pack(object_info).keys() == defined
    assert all(object_info[name]["category"].startswith("Images that Sound") for name in defined)


def test_the_log_has_no_complaint_about_the_pack(server: Server, object_info: dict[str, Any]) -> None:
    log = server.log.read_text(encoding="utf-8", errors="replace")
    about_the_pack = [line for line in log.splitlines() if PACK_NAME in line]
    assert about_the_pack, "ComfyUI did not try to load the pack"
    assert not [line for line in about_the_pack if "IMPORT FAILED" in line or "Cannot import" in line or "Error" in line]


def test_templates_and_help_pages_are_served(server: Server, object_info: dict[str, Any]) -> None:
    templates = server.get("/api/workflow_templates")[PACK_NAME]
    assert set(templates) == {template.stem for template in (REPO / "workflows").glob("*.json")}
    for name in templates:
        assert server.get_bytes(f"/api/workflow_templates/{PACK_NAME}/{urllib.parse.quote(name)}.jpg").startswith(b"\xff\xd8")
    for name in locales.of_pack(object_info):
        served = [server.get_bytes(f"/extensions/{PACK_NAME}/docs/{name}{rest}.md").decode() for rest in ("/en", "/zh", "")]
        (picture,) = {re.findall(r"!\[.*\]\((.+)\)", page)[0] for page in served}  # the front end takes it from beside the last one
        assert server.get_bytes(f"/extensions/{PACK_NAME}/docs/{picture}").startswith(b"\xff\xd8")


def test_every_translation_is_complete_and_keeps_numbers_names_and_terms(server: Server, object_info: dict[str, Any]) -> None:
    """If this fails, `python tools/locales.py` lists the same lines: write what is missing into locales/<language>/."""
    (lines,) = locales.translations(locales.locale(object_info)).values()
    # a word of our menu is no longer ours alone where this version of ComfyUI has a menu of that name itself
    others = {part for info in object_info.values() for part in info["category"].split("/")}
    shared = {f"main.nodeCategories.{word} is left over: English has no such text (any more)" for word in others}
    assert set(lines) <= shared if server.get("/system_stats")["system"]["comfyui_version"] != NEWEST else lines == []


def test_every_menu_that_is_ours_alone_is_translated(server: Server, object_info: dict[str, Any]) -> None:
    menus = locales.locale(object_info)["main"]["nodeCategories"].keys()
    told = server.get("/api/i18n")
    for language in (folder.name for folder in locales.LOCALES.iterdir()):
        assert menus <= told[language]["nodeCategories"].keys(), language
        assert told[language]["nodeDefs"].items() >= locales.load(language)["nodeDefs"].items()


def test_the_blueprints_are_listed_and_served(server: Server) -> None:
    listed = server.get("/api/global_subgraphs")
    ours = {entry["name"]: key for key, entry in listed.items() if entry["info"]["node_pack"] == f"custom_nodes.{PACK_NAME}"}
    assert ours.keys() == {"Images that Sound", "Your Photo that Sounds"}
    for name, key in ours.items():
        assert json.loads(server.get(f"/api/global_subgraphs/{key}")["data"]) == workflow.load(BLUEPRINTS / f"{name}.json")


def test_a_prompt_that_cannot_run_is_refused_by_name(server: Server) -> None:
    prompt: workflow.Prompt = {
        "1": {"class_type": "TrimCanvas", "inputs": {"columns": 32}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    with pytest.raises(QuickstartError, match="TrimCanvas"):
        list(server.run(prompt))


def test_a_socket_of_two_types_is_written_as_cores_own_are_and_takes_no_third(server: Server, object_info: dict[str, Any]) -> None:
    """Whoever reads /object_info meets such sockets in ComfyUI itself."""

    def unions(ours: bool) -> dict[str, str]:
        known = locales.of_pack(object_info)
        groups = ((name, group) for name, info in object_info.items() if (name in known) == ours for group in info["input"].values())
        specs = ((name, spec) for name, group in groups if isinstance(group, dict) for spec in group.values())
        return {name: spec[0] for name, spec in specs if isinstance(spec[0], str) and "," in spec[0]}

    assert unions(ours=True) == {"FactorizedColorize": "MODEL,DEEPFLOYD_IF", "SDSBaseline": "MODEL,DEEPFLOYD_IF"}
    assert unions(ours=False)

    prompt: workflow.Prompt = {
        "1": {"class_type": "LoadColorModel", "inputs": {"color_model_name": "embedded"}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 256, "batch_size": 1, "color": 0}},
        "3": {"class_type": "FactorizedColorize", "inputs": {"spectrogram": ["2", 0], "model": ["1", 1]}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    with pytest.raises(QuickstartError, match="CLIP.*MODEL,DEEPFLOYD_IF|MODEL,DEEPFLOYD_IF.*CLIP"):
        list(server.run(prompt))


def test_a_choice_that_a_link_brings_is_refused_by_the_node_with_what_there_is(server: Server) -> None:
    """ComfyUI lets a switch's output into every widget, and looks at no value that comes over a link."""
    prompt: workflow.Prompt = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "three-row square"}},
        "2": {"class_type": "ComfySwitchNode", "inputs": {"switch": True, "on_false": ["1", 0], "on_true": ["1", 0]}},
        "3": {"class_type": "EmptySpectrogramLatent", "inputs": {"seconds": 1.28, "batch_size": 1, "view": ["2", 0]}},
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
    }
    with pytest.raises(QuickstartError, match='EmptySpectrogramLatent: view is "three-row square"; it is one of: none, two-row square'):
        list(server.run(prompt))


def test_a_loader_whose_choice_comes_over_a_link_leaves_no_complaint_in_the_log(server: Server) -> None:
    """ComfyUI asks whether files have changed before links have values."""
    start = server.log.stat().st_size
    prompt: workflow.Prompt = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "embedded"}},
        "2": {"class_type": "ComfySwitchNode", "inputs": {"switch": True, "on_false": ["1", 0], "on_true": ["1", 0]}},
        "3": {"class_type": "LoadVocoder", "inputs": {"vocoder_name": ["2", 0]}},
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
    }
    list(server.run(prompt))
    assert "WARNING" not in server.log.read_text(encoding="utf-8", errors="replace")[start:]
