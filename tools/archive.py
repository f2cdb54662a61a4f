"""The archive that the registry would hand out: what git tracks without what .comfyignore names, as `comfy node pack` makes it.

python tools/archive.py output/images-that-sound.zip    # writes it, and says what is in it and how large it is
python tools/archive.py --publish-check                 # what pyproject.toml still lacks; ends with 1 where something is missing
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

REPO = Path(__file__).resolve().parent.parent


def members(repo: Path = REPO) -> list[str]:
    """Paths of the archive's files, relative to the repository; subprocess.CalledProcessError where git does not know it."""

    def listed(*options: str) -> list[str]:
        git = subprocess.run(["git", "ls-files", "-z", *options], cwd=repo, check=True, capture_output=True)
        return git.stdout.decode().rstrip("\0").split("\0")

    left_out = set(listed("--cached", "--ignored", "--exclude-from=.comfyignore"))
    return [name for name in listed() if name not in left_out]


def write(target: Path, repo: Path = REPO) -> None:
    """Write the archive to `target`, over what is there."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in members(repo):
            archive.write(repo / name, name)


def missing(project: dict[str, Any]) -> list[str]:
    """What a publisher has yet to fill in of a pyproject.toml, a line for each."""
    comfy = project["tool"]["comfy"]
    address = re.compile(r"https://[^\s/]+/\S+")
    wanted = [
        ("[project.urls] Repository", project["project"].get("urls", {}).get("Repository", ""), address, "the repository's https address"),
        ("[tool.comfy] PublisherId", comfy.get("PublisherId", ""), re.compile(r"[\w-]+"), "your publisher id at registry.comfy.org"),
        ("[tool.comfy] Icon", comfy.get("Icon", ""), address, "the https address of docs/icon.png in the repository"),
        ("[tool.comfy] Banner", comfy.get("Banner", ""), address, "the https address of docs/banner.jpg in the repository"),
    ]
    return [f"{name} is {value!r}: write {what} there." for name, value, form, what in wanted if not form.fullmatch(value)]


def main() -> None:
    if sys.argv[1:] == ["--publish-check"]:
        lines = missing(tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8")))
        sys.exit("pyproject.toml is not ready to be published:\n" + "\n".join(lines) if lines else 0)
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target)
    sizes: Counter[str] = Counter()
    with zipfile.ZipFile(target) as archive:
        for entry in archive.infolist():
            sizes[entry.filename.split("/")[0]] += entry.compress_size
    for name, size in sizes.most_common():
        print(f"{size / 1e3:10.0f} kB  {name}")
    print(f"{target.stat().st_size / 1e3:10.0f} kB  {target}")


if __name__ == "__main__":
    main()
