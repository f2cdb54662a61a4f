"""Credit the drawings that the embedded models learned from: write `models/embedded-image/NOTICE.md`.

    python -m lab.train.notice --data data

Set, author, licence and count of every icon set on the training side of the split (VAE, scorers and colour model learn from all of them),
and of Fluent Emoji 3D. After `drawings.py`, and again whenever `typical.py` takes other emoji.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from .fetch import unpacked
from .typical import EMOJI, EMOJI_PACKAGE

NOTICE = Path(__file__).resolve().parents[2] / "models" / "embedded-image" / "NOTICE.md"
EMOJI_SOURCE = "https://github.com/microsoft/fluentui-emoji"


def version_of(package: Path) -> str:
    return json.loads((package / "package.json").read_text())["version"]


def notice(entries: list[dict], icons: Path, emoji: Path) -> str:
    """Markdown that credits every set whose drawings are used.

    Args:
        entries: those of drawings.json that models learn from.
        icons: unpacked package of the icon sets.
        emoji: unpacked package of Fluent Emoji 3D.
    """
    collections = json.loads((icons / "collections.json").read_text())
    lines = [
        "# Drawings the embedded models learned from",
        "",
        f"Icon sets as packaged by `@iconify/json` {version_of(icons)} (package: MIT), each under its own licence, and Fluent Emoji 3D as",
        f"packaged by `{EMOJI_PACKAGE}` {version_of(emoji)} (package: MIT). The drawings themselves are not shipped; the models learned",
        "from canvases composed of them.",
        "",
        "| set | author | licence | drawings |",
        "|---|---|---|---|",
    ]
    for prefix, count in sorted(Counter(entry["set"] for entry in entries).items()):
        info = collections[prefix]
        author, licence = info["author"], info["license"]
        author, licence = f"[{author['name']}]({author.get('url', '')})", f"[{licence['spdx']}]({licence.get('url', '')})"
        lines.append(f"| {info['name']} (`{prefix}`) | {author} | {licence} | {count} |")
    count = sum(len(codes.split()) for codes in EMOJI.values())
    lines.append(f"| Fluent Emoji 3D | [Microsoft Corporation]({EMOJI_SOURCE}) | [MIT]({EMOJI_SOURCE}/blob/main/LICENSE) | {count} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    data = parser.parse_args().data

    entries = json.loads((data / "pictures" / "drawings.json").read_text())
    icons, emoji = (unpacked(data, name) / "package" for name in ("@iconify/json", EMOJI_PACKAGE))
    NOTICE.write_text(notice([entry for entry in entries if entry["split"] == "train"], icons, emoji))


if __name__ == "__main__":
    main()
