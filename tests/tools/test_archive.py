"""The registry's archive: it has what a user needs and no more, ComfyUI's own reader takes its metadata, and the pack loads from it."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from launch.environment import FLOOR, PACK_NAME, REPO
from tools import archive
from tools.comfyui import load_pack

WHOLE = ("bridge", "itsound_core", "locales", "models", "nodes", "published", "subgraphs", "web", "workflows")
"""Folders of which everything that git tracks is in the archive."""
BESIDE = {
    "__init__.py", "fetch.py", "pyproject.toml", "requirements.txt", ".comfyignore",
    "README.md", "SECURITY.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "NOTICE",
    "tools/convert_vocoder.py",
}  # fmt: skip
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which ComfyUI's manager would unpack the archive."""
    if shutil.which("git") is None or subprocess.run(["git", "rev-parse"], cwd=REPO, capture_output=True).returncode:
        pytest.skip("this is no git checkout, and git's list of files is what the registry packs")
    folder = tmp_path_factory.mktemp("archive")
    archive.write(folder / "pack.zip")
    with zipfile.ZipFile(folder / "pack.zip") as packed:
        packed.extractall(folder / PACK_NAME)
    return folder / PACK_NAME


@pytest.fixture(scope="module")
def installed(pack: ModuleType, unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return load_pack(tmp_path_factory.mktemp("custom_nodes"), unpacked)


def test_the_archive_has_what_a_user_needs_and_nothing_else(unpacked: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPO, check=True, capture_output=True, text=True).stdout.splitlines()
    needed = BESIDE | {name for name in tracked if name.startswith(tuple(f"{folder}/" for folder in WHOLE))}
    needed |= {name for name in tracked if name.startswith("docs/") and name.endswith(".md")}  # help pages refer to them
    assert {str(path.relative_to(unpacked).as_posix()) for path in unpacked.rglob("*") if path.is_file()} == needed
    assert {path.parent.name for path in unpacked.glob("models/*/unet/*.safetensors")}
    assert (unpacked.parent / "pack.zip").stat().st_size < 40 * MEBIBYTE


def test_the_pack_loads_from_the_archive_with_all_its_nodes_and_its_own_models(
    installed: ModuleType, pack: ModuleType, unpacked: Path
) -> None:
    def ids(module: ModuleType) -> list[str]:
        async def nodes() -> list[str]:
            return [node.define_schema().node_id for node in await (await module.comfy_entrypoint()).get_node_list()]

        return asyncio.run(nodes())

    assert ids(installed) == ids(pack)
    loaders = importlib.import_module(f"{installed.__name__}.nodes.loaders")
    audio = importlib.import_module(f"{installed.__name__}.nodes.audio")
    assert Path(importlib.import_module(f"{installed.__name__}.itsound_core.embedded").AUDIO_FOLDER).resolve().is_relative_to(unpacked)
    (vocoder,) = loaders.LoadVocoder.execute("embedded").args
    (sound,) = audio.SpectrogramToAudio.execute(torch.rand(1, 256, 64, 3), vocoder).args
    assert sound["waveform"].abs().max() > 0


def test_the_archive_fetches_published_models(unpacked: Path, tmp_path: Path) -> None:
    """As far as the Hub, of which there is none here."""

    def fetch(*names: str) -> str:
        variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "COMFYUI_PATH": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "fetch.py", *names], cwd=unpacked, capture_output=True, text=True, env={**os.environ, **variables}
        ).stdout

    (tmp_path / "models").mkdir()
    assert "auffusion" in fetch()
    assert "fetch: http://127.0.0.1:9 cannot be reached" in fetch("auffusion")


def test_comfyui_reads_the_metadata_whole(pack: ModuleType) -> None:
    """One classifier that it does not know empties its whole list."""
    from comfy_config.config_parser import extract_node_configuration

    config = extract_node_configuration(str(REPO))
    assert config is not None
    project, comfy = config.project, config.tool_comfy
    assert project.name == PACK_NAME and "comfyui" not in project.name.lower()
    assert [int(part) >= 0 for part in project.version.split(".")] == [True] * 3
    assert len(project.description) > 60
    assert (REPO / project.license.file).read_text(encoding="utf-8").startswith("MIT")
    assert project.supported_os == ["OS Independent"]
    assert project.supported_comfyui_version == f">={FLOOR}"
    assert comfy.display_name == "Images that Sound"
    assert comfy.web is None  # WEB_DIRECTORY alone: with both, each script would be loaded twice


def test_icon_and_banner_have_the_registrys_shapes() -> None:
    """An icon of 400 x 400 pixels at most, and a banner of 21 to 9."""
    icon, banner = (Image.open(REPO / "docs" / name) for name in ("icon.png", "banner.jpg"))
    assert icon.width == icon.height <= 400
    assert banner.width * 9 == banner.height * 21
    assert (REPO / "docs" / "icon.png").stat().st_size <= 40_000
    assert (REPO / "docs" / "banner.jpg").stat().st_size <= 120_000


FILLED_IN = {
    "[project.urls] Repository": "https://example.org/me/images-that-sound",
    "[tool.comfy] PublisherId": "me",
    "[tool.comfy] Icon": "https://example.org/me/icon.png",
    "[tool.comfy] Banner": "https://example.org/me/banner.jpg",
}


def project(filled_in: dict[str, str]) -> dict:
    tables = {table: {name.split()[-1]: text for name, text in filled_in.items() if table in name} for table in ("urls", "comfy")}
    return {"project": {"urls": tables["urls"]}, "tool": {"comfy": tables["comfy"]}}


def test_what_a_publisher_has_yet_to_fill_in_is_said_by_name() -> None:
    assert archive.missing(project(FILLED_IN)) == []
    for name in FILLED_IN:
        for empty in ({name: ""}, {name: "docs/icon.png"}):
            (line,) = archive.missing(project(FILLED_IN | empty))
            assert line.startswith(f"{name} is {empty[name]!r}: write ")
    assert len(archive.missing(project({}))) == len(FILLED_IN)


def test_the_publish_check_ends_with_1_until_all_is_filled_in() -> None:
    run = subprocess.run([sys.executable, "tools/archive.py", "--publish-check"], cwd=REPO, capture_output=True, text=True)
    lacking = [name for name in FILLED_IN if name in run.stderr]
    assert run.returncode == bool(lacking) and (lacking == [] or "not ready to be published" in run.stderr)


def test_scripts_bear_the_packs_name_and_touch_nothing_of_the_page_that_is_not_theirs() -> None:
    """As comfy-test asks: every pack's scripts share one page."""
    for script in (REPO / "web" / "js").glob("*.js"):
        text = script.read_text(encoding="utf-8")
        names = re.findall(r'registerExtension\(\{\s*name: "([^"]+)"', text) + re.findall(r'^const KEY = "([^"]+)"', text, re.MULTILINE)
        assert all(name.startswith("imagesthatsound.") for name in names), script.name
        assert len(re.findall(r"registerExtension\(", text)) <= len(names), script.name
        assert not re.search(r"document\.(head|body|addEventListener)|window\.\w+ =[^=]|createElement\(.style.\)", text), script.name
