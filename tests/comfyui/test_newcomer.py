"""A newcomer's walk through the README: a clean clone, `--serve`, the templates, two prompts of one's own, Run, play, and the files.

All of it on a laptop's screen, without scrolling or zooming in the graph.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from launch import environment
from launch.server import free_port

TEMPLATES = sorted(path.stem for path in (environment.REPO / "workflows").glob("*.json"))
LAPTOP = {"width": 1440, "height": 900}
PROMPTS = {"a drawing of castles": "a drawing of trees", "church bell ringing": "violin playing"}
STARTED = re.compile(r"ComfyUI is open at (\S+)")

CARDS = "[data-testid^='template-workflow-']"
TEXT_BOX = "written => [...document.querySelectorAll('textarea')].find(box => box.value === written)"
LINE = "() => { const line = document.querySelector('.its-player-line'); return line.getBoundingClientRect().left; }"

pytestmark = pytest.mark.browser


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The committed state of this repository, as `git clone` gives it."""
    if not (environment.REPO / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: there is nothing to clone")
    subprocess.run(["git", "clone", "-q", environment.REPO, tmp_path / "clone"], check=True)
    return tmp_path / "clone"


@pytest.fixture
def address(clone: Path, tmp_path: Path) -> Iterator[str]:
    """Where the clone's `quickstart.py --serve` says that ComfyUI is open; its cache is new but for the installed packages."""
    installed = Path(sys.prefix)
    if installed.parent != environment.cache_folder():
        pytest.skip("needs the environment that `python3 quickstart.py --test` installs")
    cache = tmp_path / "cache" / environment.PACK_NAME
    cache.mkdir(parents=True)
    (cache / installed.name).symlink_to(installed, target_is_directory=True)
    command = [sys.executable, "quickstart.py", "--serve", "--port", str(free_port(8600))]
    env = {**os.environ, "XDG_CACHE_HOME": str(cache.parent)}
    with subprocess.Popen(command, cwd=clone, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            told = (STARTED.search(line) for line in process.stdout)
            yield next(filter(None, told))[1]
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_a_newcomer_sees_hears_and_saves_an_image_that_sounds(address: str, clone: Path, open_at: Callable[..., Any]) -> None:
    began = time.monotonic()
    page = open_at(address, viewport=LAPTOP)  # where nobody has been yet, it opens with the list of templates
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    page.get_by_text("images-that-sound", exact=True).click()
    cards = page.locator(CARDS)
    page.wait_for_function(f"count => document.querySelectorAll(`{CARDS}`).length === count", arg=len(TEMPLATES))
    names = [cards.nth(index).get_attribute("data-testid").removeprefix("template-workflow-") for index in range(cards.count())]
    assert sorted(names) == TEMPLATES
    page.get_by_text("Default", exact=True).locator("visible=true").first.click()
    page.get_by_text("A → Z").locator("visible=true").last.click()
    page.wait_for_function(f"name => document.querySelector(`{CARDS}`).dataset.testid.endsWith(name)", arg=TEMPLATES[0])
    first = cards.first
    page.wait_for_function("card => card.querySelector('img')?.naturalWidth > 0", arg=first.element_handle())
    assert first.bounding_box()["y"] + first.bounding_box()["height"] < LAPTOP["height"], "in sight without scrolling"
    first.click()

    boxes = {wished: page.wait_for_function(TEXT_BOX, arg=shipped).as_element() for shipped, wished in PROMPTS.items()}
    for wished, box in boxes.items():
        box.fill(wished)
    page.get_by_test_id("queue-button").click()
    page.locator(".its-player-play:not([disabled])").click()
    page.wait_for_function(f"start => ({LINE})() > start", arg=page.evaluate(LINE))
    files: dict[str, Path] = {}
    while set(files) != {".png", ".flac"} and time.monotonic() - began < 300:
        files = {path.suffix: path for path in (clone / "output").rglob("*") if path.is_file()}
        time.sleep(0.5)
    told = Image.open(files[".png"]).info
    assert "AI-generated" in str(told) and all(wished in str(told) for wished in PROMPTS.values())
    assert files[".flac"].stat().st_size > 10_000
    assert errors == []
