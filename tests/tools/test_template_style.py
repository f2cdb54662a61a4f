"""Templates look alike: a note to start from, numbered groups, coloured prompts, and one colour that is the sound's alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from launch import workflow
from launch.environment import REPO

TEMPLATES = sorted((REPO / "workflows").glob("*.json"))
SOUND = ("#223", "#335")


@pytest.fixture(params=TEMPLATES, ids=lambda path: path.stem)
def template(request: pytest.FixtureRequest) -> dict[str, Any]:
    path: Path = request.param
    return workflow.load(path)


def test_names_are_numbered_short_and_of_characters_that_every_system_and_the_front_end_take() -> None:
    """The list shows file names as they are, and the front end does not encode them in the addresses that it asks for."""
    for name in (path.stem for path in TEMPLATES):
        assert re.fullmatch(r"[012]\d [A-Z][A-Za-z0-9 ]+", name) and len(name) <= 25, name
    assert len({path.stem[:2] for path in TEMPLATES}) == len(TEMPLATES)


def test_a_template_ends_in_a_player_and_a_pair_saved_together(template: dict[str, Any]) -> None:
    """For each picture that it makes; core's SaveAudio is deprecated and says so on the node."""
    kinds = [node["type"] for node in workflow.all_nodes(template)]
    assert kinds.count("PlayImage") == kinds.count("SaveImageThatSounds") >= 1
    assert "SaveAudio" not in kinds


def test_a_template_to_begin_with_has_eight_nodes_at_most() -> None:
    assert all(len(workflow.load(path)["nodes"]) <= 8 for path in TEMPLATES if path.stem.startswith("0"))


def test_a_template_has_a_note_to_start_from(template: dict[str, Any]) -> None:
    (note,) = [node for node in template["nodes"] if node.get("title") == "Start here"]
    assert note["type"] == "MarkdownNote" and note["widgets_values"][0].startswith("## ")


def test_a_note_says_where_the_files_are_that_its_template_opens(template: dict[str, Any]) -> None:
    """ComfyUI's input folder has them only where someone has copied them."""
    values = {value for node in workflow.all_nodes(template) for value in node.get("widgets_values") or [] if isinstance(value, str)}
    files = values & {path.name for path in (REPO / "workflows" / "inputs").iterdir()}
    note = next(node["widgets_values"][0] for node in template["nodes"] if node.get("title") == "Start here")
    assert not files or all(told in note for told in (*files, "custom_nodes/images-that-sound/workflows/inputs"))


def test_the_numbered_groups_of_a_template_go_from_left_to_right(template: dict[str, Any]) -> None:
    lefts = {int(group["title"].split(" · ")[0]): group["bounding"][0] for group in template["groups"] if " · " in group["title"]}
    assert sorted(lefts) == list(range(1, len(lefts) + 1)) and lefts
    assert [lefts[number] for number in sorted(lefts)] == sorted(lefts.values())


def test_prompts_are_coloured_and_those_of_the_sound_alike(template: dict[str, Any]) -> None:
    for node in workflow.all_nodes(template):
        if node["type"] in ("CLIPTextEncode", "PrimitiveStringMultiline"):
            sound = re.search(r"\b(sounds?|heard)\b", node["title"], re.IGNORECASE)
            assert ((node["color"], node["bgcolor"]) == SOUND) == bool(sound), node["title"]


def test_what_is_typed_into_a_terminal_stands_in_a_block_of_its_own(template: dict[str, Any]) -> None:
    """Both renderers show a block in white; the new one shows code within a line in blue, which cannot be read on a note."""
    for node in template["nodes"]:
        if node["type"] == "MarkdownNote":
            outside = re.sub(r"^```\n.*?^```$", "", node["widgets_values"][0], flags=re.DOTALL | re.MULTILINE)
            assert not re.search(r"(fetch\.py|pip install) \w", outside)
