"""Draw web/docs/img/<NodeId>.jpg, each node as ComfyUI's own front end shows it, for the help pages.

    COMFYUI_PATH=... python tools/node_pictures.py                # all nodes
    COMFYUI_PATH=... python tools/node_pictures.py KeepBest ...   # these

Needs chromium and the packages of requirements-dev.txt. Starts a server of its own in a temporary folder, with no models but the embedded
ones, so that the pictures are the same wherever they are drawn.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

sys.path.append(str(Path(__file__).resolve().parent.parent))
from launch.environment import REPO  # noqa: E402
from launch.server import Server  # noqa: E402
from tools.comfyui import temporary_server  # noqa: E402
from tools.front_end import open_front_end  # noqa: E402
from tools.jpeg import jpeg  # noqa: E402
from tools.locales import of_pack  # noqa: E402

PICTURES = REPO / "web" / "docs" / "img"
LARGEST = 25_000
"""Bytes of a picture."""
DEEPFLOYD = ("IF-I-M-v1.0", "IF-II-M-v1.0")
"""Folders under models/diffusers, there by name only: without any, their loader's widgets would be empty."""

PLACE = """async ([type, left, top]) => {
  const {app, LiteGraph} = window;
  for (const old of [...app.graph.nodes]) app.graph.remove(old);  // clear() would number anew: the new node would take the old one's values
  app.canvas.clear_background_color = "#222";
  app.canvas.background_image = null;
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [left, top];
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  node.setSize([Math.max(node.size[0], 300), node.size[1]]);
  node.pos = [0, LiteGraph.NODE_TITLE_HEIGHT];
  for (let frame = 0; frame < 10; frame++) {
    app.canvas.draw(true, true);
    await new Promise(requestAnimationFrame);
  }
  return {width: node.size[0], height: node.size[1] + LiteGraph.NODE_TITLE_HEIGHT};
}"""
"""A graph of one new node, drawn; its widgets that are elements of the page follow the canvas some frames later."""
LEFT, TOP, MARGIN = 500, 150, 8
"""Where on the page the node is drawn, clear of the menus, and what is left around it."""


def draw(page: Page, node_id: str) -> Image.Image:
    """Screenshot of a node with its default values."""
    size = page.evaluate(PLACE, [node_id, LEFT, TOP])
    sides = {side: pixels + 2 * MARGIN for side, pixels in size.items()}
    picture = page.screenshot(clip={"x": LEFT - MARGIN, "y": TOP - MARGIN, **sides})
    return Image.open(io.BytesIO(picture)).convert("RGB")


def draw_all(server: Server, wanted: list[str]) -> None:
    with open_front_end(server, 1400, 1200) as page:
        PICTURES.mkdir(exist_ok=True)
        for node_id in wanted or of_pack(server.get("/object_info")):
            content = jpeg(draw(page, node_id), LARGEST)
            (PICTURES / f"{node_id}.jpg").write_bytes(content)
            print(f"{node_id}.jpg: {len(content)} bytes")


def main() -> None:
    with temporary_server() as server:
        for name in DEEPFLOYD:
            index = server.base / "models" / "diffusers" / name / "model_index.json"
            index.parent.mkdir(parents=True)
            index.write_text("{}", encoding="utf-8")
        draw_all(server, sys.argv[1:])


if __name__ == "__main__":
    main()
