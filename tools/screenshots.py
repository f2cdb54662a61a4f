"""Draw docs/template.jpg and docs/player.jpg: the first template after a run as it ships, and its player in both of ComfyUI's renderers.

    COMFYUI_PATH=... python tools/screenshots.py        # a minute on two CPU cores

Needs chromium and the packages of requirements-dev.txt.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page

sys.path.append(str(Path(__file__).resolve().parent.parent))
from launch import workflow  # noqa: E402
from launch.environment import REPO  # noqa: E402
from launch.server import Server  # noqa: E402
from tools.comfyui import temporary_server  # noqa: E402
from tools.front_end import open_front_end  # noqa: E402
from tools.jpeg import jpeg  # noqa: E402

TEMPLATE = REPO / "workflows" / "01 Picture that sounds.json"
DOCS = REPO / "docs"
LARGEST = 130_000
"""Bytes of a picture."""
LEFT, TOP, MARGIN = 480, 150, 8
"""Where on the page it is drawn, clear of the menus, and what is left around it."""
WIDE, PLAYER_WIDE = 1300, 700
"""Pixels that graph and player are wide."""
RUN_LIMIT, SETTLED = 300.0, 4_000
"""Seconds that a run may take; milliseconds that its pictures, sounds and video take to appear."""

PLACE = """([what, wide, left, top]) => {
  // The whole graph, or the node of a type, brought to a place on the page and to a width in pixels; its size there.
  const {app, LiteGraph} = window, title = LiteGraph.NODE_TITLE_HEIGHT;
  const box = node => [node.pos[0], node.pos[1] - title, node.pos[0] + node.size[0], node.pos[1] + node.size[1]];
  const groups = app.graph.groups.map(group => [...group.pos, group.pos[0] + group.size[0], group.pos[1] + group.size[1]]);
  const nodes = app.graph.nodes.filter(node => what === 'graph' || node.type === what).map(box);
  const boxes = what === 'graph' ? [...groups, ...nodes] : nodes;
  const [x, y] = [0, 1].map(i => Math.min(...boxes.map(b => b[i])));
  const [right, bottom] = [2, 3].map(i => Math.max(...boxes.map(b => b[i])));
  const scale = wide / (right - x);
  Object.assign(app.canvas, {low_quality_zoom_threshold: 0, min_font_size_for_lod: 0});  // else widgets this small are drawn without text
  app.canvas.ds.scale = scale;
  app.canvas.ds.offset = [left / scale - x, top / scale - y];
  app.canvas.deselectAll?.();
  app.canvas.setDirty(true, true);
  return {width: scale * (right - x), height: scale * (bottom - y)};
}"""
RENDERER = "on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"


def run(page: Page, server: Server, template: dict[str, Any]) -> None:
    """Open the template, run it, and wait until all of it shows what came out."""
    page.evaluate("graph => window.app.loadGraphData(graph)", template)
    page.wait_for_timeout(SETTLED)
    place(page, "graph", WIDE)  # what is out of sight is not loaded
    page.evaluate("() => window.app.queuePrompt(0)")
    page.wait_for_selector(".its-player-play:not([disabled])", timeout=1000 * RUN_LIMIT)
    until = time.monotonic() + RUN_LIMIT
    while any(server.get("/queue").values()):
        if time.monotonic() > until:
            raise TimeoutError(f"the template did not end within {RUN_LIMIT:.0f} s")
        time.sleep(1)
    page.wait_for_timeout(SETTLED)


def place(page: Page, what: str, wide: int) -> dict[str, float]:
    """Width and height on the page of what PLACE has brought there."""
    size = page.evaluate(PLACE, [what, wide, LEFT, TOP])
    page.wait_for_timeout(SETTLED // 4)
    return size


def seen(page: Page, what: str, wide: int) -> Image.Image:
    """Screenshot of the whole graph or of the node of a type, `wide` pixels and a margin wide."""
    place(page, what, wide)
    size = place(page, what, wide)  # nodes may have grown when they were drawn
    sides = {side: pixels + 2 * MARGIN for side, pixels in size.items()}
    return Image.open(io.BytesIO(page.screenshot(clip={"x": LEFT - MARGIN, "y": TOP - MARGIN, **sides}))).convert("RGB")


def player(page: Page, new_renderer: bool, view: str) -> Image.Image:
    """Screenshot of the player while it plays, with the pointer in its picture."""
    page.evaluate(RENDERER, new_renderer)
    page.wait_for_timeout(SETTLED)
    place(page, "PlayImage", PLAYER_WIDE)
    page.locator(".its-player select").select_option(label=view)
    stage = page.locator(".its-player-stage").bounding_box()
    assert stage
    page.mouse.click(stage["x"] + 0.6 * stage["width"], stage["y"] + 0.5 * stage["height"])
    page.mouse.move(stage["x"] + 0.7 * stage["width"], stage["y"] + 0.5 * stage["height"])
    shot = seen(page, "PlayImage", PLAYER_WIDE)
    page.locator(".its-player-play").click()
    return shot


def beside(pictures: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(picture.width for picture in pictures), max(picture.height for picture in pictures)), "#222222")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width
    return sheet


def main() -> None:
    with temporary_server() as server, open_front_end(server, 2400, 1700) as page:
        run(page, server, workflow.load(TEMPLATE))
        (DOCS / "template.jpg").write_bytes(jpeg(seen(page, "graph", WIDE), LARGEST))
        players = [player(page, False, "as it is"), player(page, True, "renormalised")]
        (DOCS / "player.jpg").write_bytes(jpeg(beside(players), LARGEST))


if __name__ == "__main__":
    main()
