"""A real ComfyUI server with the pack in it, its folders in a temporary place, and a real browser that opens it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from launch.environment import NEWEST_FRONT_END, front_end_folder
from launch.server import Server

REPO = Path(__file__).resolve().parent.parent.parent
CHROMIUM = shutil.which("chromium")
LIMIT_MS = 240_000
WATCHED, NOTES = REPO / "tests" / "comfyui" / "watched.py", "notes.txt"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """ComfyUI from COMFYUI_PATH, on the CPU, without network; see `watched`."""
    with _server(tmp_path_factory.mktemp("comfyui")) as running:
        yield running
    assert notes(running) == "", "what the pack did while all these tests ran"


@pytest.fixture(scope="session")
def newest_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same with a newer front end than it comes with."""
    folder = front_end_folder(NEWEST_FRONT_END)
    if not folder.exists():
        pytest.skip(f"{folder} is missing; `python3 quickstart.py --test` provides it")
    with _server(tmp_path_factory.mktemp("comfyui"), "--front-end-root", str(folder)) as running:
        yield running
    assert notes(running) == "", "what the pack did while all these tests ran"


def _server(base: Path, *options: str) -> Server:
    comfyui = os.environ.get("COMFYUI_PATH")
    if not comfyui:
        pytest.skip("COMFYUI_PATH does not name a ComfyUI folder; `python3 quickstart.py --test` provides one")
    server = Server(Path(sys.executable), Path(comfyui), base, base / "output", options=("--cpu", "--disable-api-nodes", *options))
    server.command[1:1] = [str(WATCHED), str(base / NOTES), str(base)]
    return server


def notes(server: Server) -> str:
    """What was done in the server that no test expects: see `watched`."""
    return (server.base / NOTES).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def object_info(server: Server) -> dict[str, Any]:
    return server.get("/object_info")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; closed with the module."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_at(browser: Any) -> Callable[..., Any]:
    """Opens an address in a page, with the browser's options for one, after running a script in it, and waits for ComfyUI's front end."""
    from tools.front_end import READY  # here, because it needs playwright, which `browser` asks for

    def open_comfyui(url: str, script: str = "", **options: Any) -> Any:
        page = browser.new_page(**{"viewport": {"width": 1900, "height": 1000}, **options})
        page.set_default_timeout(LIMIT_MS)
        page.add_init_script(script)
        page.goto(url, wait_until="domcontentloaded")
        page.wait_for_function(READY)
        return page

    return open_comfyui


@pytest.fixture(scope="module")
def open_page(server: Server, open_at: Callable[..., Any]) -> Callable[..., Any]:
    """Opens the server in a page, after running a script in it."""
    return _opener(server, open_at)


@pytest.fixture(scope="module")
def open_newest_page(newest_server: Server, open_at: Callable[..., Any]) -> Callable[..., Any]:
    """The same on the server with the newer front end."""
    return _opener(newest_server, open_at)


def _opener(server: Server, open_at: Callable[..., Any]) -> Callable[..., Any]:
    server.post("/settings", {"Comfy.TutorialCompleted": True})  # else the list of templates lies over the graph
    return partial(open_at, server.url)
