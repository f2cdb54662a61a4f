"""What README, CONTRIBUTING and the pages beside them name exists: paths, links, commands, options, nodes and templates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PAGES = [REPO / name for name in ("README.md", "CONTRIBUTING.md", "lab/README.md", "lab/RESULTS.md", "tools/README.md")]
PAGES += sorted((REPO / "docs").glob("*.md"))
TOP = {path.name for path in REPO.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"output", "data"}
MADE_BY_A_COMMAND = re.compile(r"models/(checkpoints|diffusers|diffusion_models|loras|scorers|text_encoders|vae|vocoders)\b|[<*{]|\.\.\.")
"""Paths in a user's ComfyUI, and patterns."""


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_of(text: str) -> str:
    """What stands between backticks, in the line or in blocks."""
    blocks = re.findall(r"```.*?```", text, re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))])


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page: Path) -> None:
    for name in re.findall(r"(?<![\w/.:-])[\w.-]+(?:/[\w.<>*{},-]*)+", code_of(text_of(page))):
        if name.split("/")[0] in TOP and not MADE_BY_A_COMMAND.search(name):
            assert (REPO / name.rstrip(".,")).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page: Path) -> None:
    code = code_of(text_of(page))
    for module in re.findall(r"python3? -m (lab(?:\.\w+)+)(?![.<\w])", code):
        path = REPO / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    for script in re.findall(r"python3? ([\w/]+\.py)", code):
        assert (REPO / script).is_file(), script
    for script in ("quickstart.py", "fetch.py"):
        for arguments in re.findall(rf"python3? {script} ([^\n#`]*)", code):
            before_pytest = arguments.partition("--test ")
            for option in re.findall(r"--[\w-]+", before_pytest[0] + before_pytest[1]):
                assert f'"{option}"' in text_of(REPO / script), f"{script} {option}"


def rows(heading: str) -> list[str]:
    """First cells of the README's table under a heading."""
    section = text_of(REPO / "README.md").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [row.split("|")[1].strip() for row in section.splitlines() if row.startswith("|")][2:]


def test_the_readme_lists_every_node_by_its_title() -> None:
    titles = re.findall(r'node_id=[^\n]+\n\s*display_name="([^"]+)"', "".join(text_of(path) for path in (REPO / "nodes").glob("*.py")))
    assert sorted(", ".join(rows("Nodes")).split(", ")) == sorted(titles)


def test_the_readme_lists_every_template() -> None:
    listed = [name.strip("`* ") for row in rows("In your own ComfyUI") for name in row.split(",")]
    assert sorted(listed) == sorted(path.stem for path in (REPO / "workflows").glob("*.json"))


def test_the_figures_of_the_readmes_results_stand_in_the_table_of_results() -> None:
    section = text_of(REPO / "README.md").split("\n## Results\n")[1].split("\n## ")[0]
    figures = re.findall(r"\d+(?:\.\d+)?", re.sub(r"\([^)]*\)", "", section))
    told = set(re.findall(r"\d+(?:\.\d+)?", text_of(REPO / "lab" / "RESULTS.md")))
    assert figures and set(figures) <= told


@pytest.mark.parametrize(("page", "lines"), [("README.md", 130), ("CONTRIBUTING.md", 40)])
def test_a_page_stays_short(page: str, lines: int) -> None:
    assert len(text_of(REPO / page).splitlines()) <= lines


def test_what_moves_and_sounds_on_the_first_screen_is_small() -> None:
    assert (REPO / "docs" / "first.webp").stat().st_size < 1_500_000
    assert (REPO / "docs" / "first.mp4").stat().st_size < 1_000_000
