"""ComfyUI's own front end in a browser, for the makers of pictures. Needs chromium and the packages of requirements-dev.txt."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from launch.server import Server

SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.NodeBadge.NodeSourceBadgeMode": "None", "Comfy.Minimap.Visible": False}
"""No list of templates over the canvas, as a first visit opens it, no badge over the node, and no map in the corner."""
READY = "window.app && window.app.graph && window.app.extensionManager && document.querySelector('canvas')"


@contextmanager
def open_front_end(server: Server, width: int, height: int) -> Iterator[Page]:
    """A page of the server's front end, in English, ready to be used."""
    server.post("/settings", SETTINGS)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height}, locale="en-US")
        page.goto(server.url, wait_until="domcontentloaded")
        page.wait_for_function(READY, timeout=240_000)
        yield page
        browser.close()
