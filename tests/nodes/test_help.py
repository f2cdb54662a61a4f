"""Every node explains itself: description, tooltips, and help pages, in English and in Chinese, that cover each input."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tools import help_pages, locales

REPO = Path(__file__).resolve().parent.parent.parent
DOCS = REPO / "web" / "docs"


@pytest.fixture(scope="module")
def object_info(pack) -> dict[str, dict]:
    """What the server tells the front end of each node."""

    async def get_nodes():
        extension = await pack.comfy_entrypoint()
        return await extension.get_node_list()

    return {node.define_schema().node_id: node.GET_NODE_INFO_V1() for node in asyncio.run(get_nodes())}


def inputs_of(info: dict) -> dict[str, list]:
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def english(node_id: str) -> str:
    return (DOCS / node_id / "en.md").read_text(encoding="utf-8")


def test_every_node_has_a_description_and_a_place_in_the_menu(object_info):
    for node_id, info in object_info.items():
        assert len(info["description"]) > 30, node_id
        assert info["display_name"] != node_id, node_id
        assert info["category"].split("/")[0] == "Images that Sound", node_id


def test_every_input_and_output_has_a_tooltip(object_info):
    for node_id, info in object_info.items():
        for name, options in inputs_of(info).items():
            assert len(options[1].get("tooltip") or "") > 10, f"{node_id}.{name}"
        assert len(info["output_tooltips"]) == len(info["output"]), node_id
        for name, tooltip in zip(info["output_name"], info["output_tooltips"], strict=True):
            assert tooltip and len(tooltip) > 10, f"{node_id} -> {name}"


def test_every_node_has_a_help_page_that_covers_each_input_in_order(object_info):
    for node_id, info in object_info.items():
        page = english(node_id)
        assert page.startswith(f"# {info['display_name']}\n"), node_id
        table = page.split("## Inputs")[1].split("## Outputs")[0]
        assert re.findall(r"^\| (\w+) \|", table, re.MULTILINE)[1:] == list(inputs_of(info)), node_id
        outputs = page.split("## Outputs")[1].split("##")[0]
        told = [name.strip() for row in re.findall(r"^\| ([^|]+) \|", outputs, re.MULTILINE)[1:] for name in row.split(",")]
        assert told == info["output_name"], node_id


def test_every_help_page_tells_kinds_and_ranges_as_the_schema_has_them(object_info):
    """If this fails, run `python tools/help_pages.py`."""
    for node_id, info in object_info.items():
        table = english(node_id).split("## Inputs")[1].split("## Outputs")[0]
        assert dict(re.findall(r"^\| (\w+) \| ([^|]*) \|", table, re.MULTILINE)[1:]) == help_pages.kinds(info), node_id


def test_every_help_page_shows_its_node_gives_a_tip_and_names_templates_that_use_it(object_info):
    """If this fails, run `python tools/node_pictures.py` and `python tools/help_pages.py`."""
    for node_id, info in object_info.items():
        page = english(node_id)
        assert f"\n![{info['display_name']}](img/{node_id}.jpg)\n" in page.split("## Inputs")[0], node_id
        assert "\n## Tips\n\n- " in page, node_id
        named = re.findall(r"`([^`]+)`", "".join(re.findall(r"^To try: .*$", page, re.MULTILINE)))
        using = help_pages.templates_with(node_id)
        assert set(named) <= set(using) and bool(named) == bool(using), node_id


def test_the_pictures_of_the_help_pages_are_small_and_none_is_left_of_a_node_that_is_gone(object_info):
    pictures = list((DOCS / "img").iterdir())
    assert {picture.name for picture in pictures} == {f"{node_id}.jpg" for node_id in object_info}
    for picture in pictures:
        assert picture.stat().st_size <= 25_000, picture.name
        assert Image.open(picture).width >= 300, picture.name


def test_no_help_page_is_left_of_a_node_that_is_gone(object_info):
    languages = {"en.md", "zh.md"}
    assert {page.stem for page in DOCS.glob("*.md")} == set(object_info)
    assert {
        folder.name: {page.name for page in folder.iterdir()} for folder in DOCS.iterdir() if folder.is_dir() and folder.name != "img"
    } == {node_id: languages for node_id in object_info}


def test_help_is_up_to_date_in_every_language(object_info):
    """If this fails, run `python tools/help_pages.py`. The page that every other language gets is the English one."""
    for node_id, info in object_info.items():
        for path, text in help_pages.pages(node_id, info).items():
            assert path.read_text(encoding="utf-8") == text, path
        assert (DOCS / f"{node_id}.md").read_text(encoding="utf-8") == english(node_id)


def test_the_chinese_pages_say_all_of_the_english_ones_with_the_terms_of_the_glossary(object_info):
    source, translation = locales.node_definitions(object_info), locales.load("zh")["nodeDefs"]
    terms = json.loads(locales.GLOSSARY.read_text(encoding="utf-8"))["zh"]["terms"]
    for node_id in object_info:
        chinese = (DOCS / node_id / "zh.md").read_text(encoding="utf-8")
        assert chinese.startswith(f"# {translation[node_id]['display_name']}\n")
        assert "\n## 提示\n\n- " in chinese, node_id
        known = locales.page_terms(node_id, source, translation, terms)
        assert locales.unkept(help_pages.prose(english(node_id)), help_pages.prose(chinese), known) == [], node_id
