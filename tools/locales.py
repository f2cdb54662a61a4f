"""Write locales/en/nodeDefs.json, the texts that translators start from, out of a running ComfyUI that has this pack.

    python tools/locales.py http://127.0.0.1:8188
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.request import urlopen

LOCALE = Path(__file__).resolve().parent.parent / "locales" / "en" / "nodeDefs.json"
PACK = "images-that-sound"


def node_definitions(object_info: dict[str, dict]) -> dict[str, dict]:
    """Translatable texts of each node in an answer of /object_info, in the shape of ComfyUI's nodeDefs.json."""
    return {node_id: _node_definition(info) for node_id, info in sorted(object_info.items())}


def _node_definition(info: dict) -> dict:
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {name: {"name": name, "tooltip": options[1]["tooltip"]} for name, options in inputs.items()},
        "outputs": {str(index): {"name": name, "tooltip": tooltip} for index, (name, tooltip) in enumerate(outputs)},
    }


def to_json(definitions: dict[str, dict]) -> str:
    return json.dumps(definitions, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    with urlopen(f"{sys.argv[1].rstrip('/')}/object_info") as answer:
        object_info = json.load(answer)
    ours = {node_id: info for node_id, info in object_info.items() if info["python_module"] == f"custom_nodes.{PACK}"}
    LOCALE.parent.mkdir(parents=True, exist_ok=True)
    LOCALE.write_text(to_json(node_definitions(ours)), encoding="utf-8")


if __name__ == "__main__":
    main()
