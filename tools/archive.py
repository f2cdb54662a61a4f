"""The archive that the registry would hand out: what git tracks without what .comfyignore names, as `comfy node pack` makes it.

python tools/archive.py output/images-that-sound.zip    # writes it, and says what is in it and how large it is
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

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


def main() -> None:
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
