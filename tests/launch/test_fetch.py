"""fetch.py against a Hub on this machine: what breaks goes on, what is wrong is refused, and nothing happens unasked."""

from __future__ import annotations

import errno
import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import torch
from filelock import FileLock
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from itsound_core.embedded import CLIP_FOLDER
from itsound_core.scoring import PictureScorer
from launch.environment import REPO
from published import fetching
from published import hub as hub_module
from published.fetching import fetch
from published.hub import FetchError, part_of
from published.models import MODELS, Model, Source

COMMIT = "c0ffee" * 6 + "cafe"
WEIGHTS = bytes(range(256)) * 40
CONFIG = b'{"kind": "test"}\n'
FILES = {"model_index.json": CONFIG, "unet/model.bin": WEIGHTS, "vocoder/config.json": CONFIG, "unet/unwanted.onnx": b"no"}
LARGE = {"unet/model.bin"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        """What a file is, without its bytes; of the large ones also where they lie."""
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.seen.append((self.headers["Host"], path, dict(self.headers)))
        hub.heads.append((path, {name.title(): value for name, value in self.headers.items()}))
        name = path.partition(COMMIT)[2][1:] or path.removeprefix("/storage/")
        if path in hub.refusals:
            status, headers = hub.refusals[path]
            return self.answer(status, b"", headers)
        about = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(hub.files[name]))}
        if name in LARGE and COMMIT in path:
            xet = {"X-Xet-Hash": "0" * 64, "X-Xet-Refresh-Route": "/nowhere"}
            return self.answer(302, b"", {**about, **xet, "Location": hub.storage + "/storage/" + name, "Content-Length": "0"})
        self.answer(200, b"", about)

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.seen.append((self.headers["Host"], path, dict(self.headers)))
        hub.requests.append((path, {name.title(): value for name, value in self.headers.items()}))
        if path in hub.refusals:
            status, headers = hub.refusals[path]
            self.answer(status, b"", headers)
        elif path == "/api/models/someone/tiny/revision/main":
            self.answer(200, hub.login_page or json.dumps(hub.record()).encode())
        elif path == f"/api/models/someone/tiny/revision/{COMMIT}":
            self.answer(200, json.dumps(hub.record()).encode())
        elif path.startswith(f"/someone/tiny/resolve/{COMMIT}/"):
            name = path.partition(COMMIT)[2][1:]
            if name in LARGE:
                self.answer(302, b"", {"Location": hub.storage + "/storage/" + name})
            else:
                self.body(hub.files[name])
        elif path.startswith("/storage/"):
            self.body(hub.files[path.removeprefix("/storage/")])
        else:
            self.answer(404, b"")

    def body(self, data: bytes) -> None:
        """The file, from the byte asked for where the fake honours that, and cut off as often as a test wants."""
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.hub.honours_range else 0
        ranged = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        send = self.hub.cuts.pop(0) if self.hub.cuts else len(data)
        length = self.hub.stated_size or len(data) - start
        self.answer(206 if start else 200, data[start : start + send], {**ranged, "Content-Length": str(length)})
        self.close_connection = True

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class FakeHub:
    """A Hub with one repository; its large files lie on another server, as the Hub's do."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.heads: list[tuple[str, dict[str, str]]] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        """Of every request the server's name and port, the path, the headers."""
        self.refusals: dict[str, tuple[int, dict[str, str]]] = {}
        self.files = dict(FILES)
        self.listing = [entry(path, data) for path, data in FILES.items()]
        self.cuts: list[int] = []
        self.honours_range = True
        self.gated: bool | str = False
        self.stated_size: int | None = None
        self.login_page: bytes | None = None
        handler = type("HandlerOfThis", (Handler,), {"hub": self})
        self.servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url, self.storage = (
            f"http://{host}:{server.server_port}" for host, server in zip(("127.0.0.1", "localhost"), self.servers, strict=True)
        )

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def record(self) -> dict[str, Any]:
        card = {"license": "cc-by-4.0"}
        return {"id": "someone/tiny", "sha": COMMIT, "cardData": card, "gated": self.gated, "siblings": self.listing}

    def holds(self, files: dict[str, bytes]) -> None:
        """Hold these files instead, outside large-file storage."""
        self.files, self.listing = files, [entry(path, data) for path, data in files.items()]

    def got(self, path: str) -> list[dict[str, str]]:
        return [headers for requested, headers in self.requests if requested == path]


def entry(path: str, data: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    large = {"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}} if path in LARGE else {}
    return {"rfilename": path, "size": len(data), "blobId": blob, **large}


WANTED = ("model_index.json", "unet/*.bin", "vocoder/*")
TINY = {"tiny": Model("a test", "CC BY 4.0", "unknown", (Source("someone/tiny", "main", "diffusers/tiny", WANTED),))}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    fake = FakeHub()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "COMFYUI_PATH", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", fake.url)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)  # so that of a short file too a part is kept
    monkeypatch.setattr(time, "sleep", lambda _: None)
    yield fake
    fake.close()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


WEIGHTS_URL = "/storage/unet/model.bin"


def weights(models: Path) -> Path:
    return models / "diffusers" / "tiny" / "unet" / "model.bin"


def part(models: Path) -> Path:
    return part_of(weights(models))


def test_wanted_files_come_to_their_place_with_a_record_beside_them(hub: FakeHub, models: Path, capsys: pytest.CaptureFixture) -> None:
    fetch(TINY, models, agreed=True)
    folder = models / "diffusers" / "tiny"
    record = json.loads((folder / "fetched-tiny.json").read_text())
    came = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del came["fetched-tiny.json"]
    assert came == {path: data for path, data in FILES.items() if path != "unet/unwanted.onnx"}
    assert COMMIT in record["from"] and record["files"]["unet/model.bin"]["digest"] == f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("CC BY 4.0", "cc-by-4.0", "10.24 kB  unet/model.bin", "someone/tiny", str(folder)))


def test_a_second_run_gets_nothing_and_asks_nothing(hub: FakeHub, models: Path, capsys: pytest.CaptureFixture) -> None:
    fetch(TINY, models, agreed=True)
    hub.requests.clear()
    fetch(TINY, models)
    assert [path for path, _ in hub.requests if "/resolve/" in path] == []
    assert "nothing to get" in capsys.readouterr().out


def test_a_cut_connection_is_taken_up_again_where_it_broke(hub: FakeHub, models: Path) -> None:
    hub.cuts = [len(CONFIG), 1000, 2000]
    fetch(TINY, models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS
    assert [headers.get("Range") for headers in hub.got(WEIGHTS_URL)] == [None, "bytes=1000-", "bytes=3000-"]


def test_a_later_run_goes_on_from_the_part_that_an_earlier_one_left(hub: FakeHub, models: Path, capsys: pytest.CaptureFixture) -> None:
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(WEIGHTS[:7000])
    fetch(TINY, models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS and not part(models).exists()
    assert [headers.get("Range") for headers in hub.got(WEIGHTS_URL)] == ["bytes=7000-"]
    assert "7.00 kB of it there" in capsys.readouterr().out


def test_a_part_that_is_longer_than_the_file_is_begun_anew(hub: FakeHub, models: Path) -> None:
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(bytes(20_000))
    fetch(TINY, models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


def test_a_server_that_knows_no_ranges_sends_the_file_anew(hub: FakeHub, models: Path) -> None:
    hub.honours_range, hub.cuts = False, [len(CONFIG), 1000]
    fetch(TINY, models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


def test_what_a_server_without_ranges_broke_off_is_not_mixed_with_an_earlier_part(hub: FakeHub, models: Path) -> None:
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(bytes(7000))
    hub.honours_range, hub.cuts = False, [len(CONFIG), *[1000] * 99]
    with pytest.raises(FetchError, match="could not be got"):
        fetch(TINY, models, agreed=True)
    assert part(models).read_bytes() == WEIGHTS[:1000]


def test_a_connection_that_never_gets_further_is_given_up_and_the_part_kept(hub: FakeHub, models: Path) -> None:
    hub.cuts = [len(CONFIG), 1000, *[0] * 99]
    with pytest.raises(FetchError, match=r"could not be got .* 1.00 kB of 10.24 kB are kept .* goes on from there"):
        fetch(TINY, models, agreed=True)
    assert part(models).read_bytes() == WEIGHTS[:1000]
    hub.cuts.clear()
    fetch(TINY, models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


def test_a_server_that_always_breaks_off_at_the_same_byte_is_given_up(hub: FakeHub, models: Path) -> None:
    hub.honours_range, hub.cuts = False, [len(CONFIG), *[1000] * 99]
    with pytest.raises(FetchError, match="could not be got"):
        fetch(TINY, models, agreed=True)


def test_an_overloaded_server_is_asked_again(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.refusals[WEIGHTS_URL] = (503, {})
    monkeypatch.setattr(time, "sleep", lambda _: hub.refusals.clear())
    fetch(TINY, models, agreed=True)
    assert len(hub.got(WEIGHTS_URL)) == 2


@pytest.mark.parametrize("kept", [0, 5000])
def test_a_wrong_size_is_refused_and_nothing_of_it_kept(hub: FakeHub, models: Path, kept: int) -> None:
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(WEIGHTS[:kept])
    hub.refusals[WEIGHTS_URL] = (200, {})  # an empty page, as of a network's login
    with pytest.raises(FetchError, match="should be of size 10240 but has size 0.*a proxy or a login page in between"):
        fetch(TINY, models, agreed=True)
    assert WEIGHTS.startswith(part(models).read_bytes()) and not weights(models).exists()
    hub.refusals.clear()
    fetch(TINY, models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


@pytest.mark.parametrize("path", ["unet/model.bin", "model_index.json"])
def test_a_wrong_hash_is_refused_and_the_file_deleted(hub: FakeHub, models: Path, path: str) -> None:
    hub.files[path] = bytes(len(FILES[path]))
    with pytest.raises(FetchError, match=f"{path} came with another hash"):
        fetch(TINY, models, agreed=True)
    target = models / "diffusers" / "tiny" / path
    assert not target.exists() and not part_of(target).exists()


def test_a_file_known_by_its_hash_is_not_taken_from_a_listing_with_another(hub: FakeHub, models: Path) -> None:
    wanted = source("checkpoints", "unet/model.bin", save_as="tiny.bin", sha256="0" * 64)
    with pytest.raises(FetchError, match="is not the known file"):
        fetch(wanted, models, agreed=True)


def test_a_full_disk_is_said_before_the_question(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10_000})())
    with pytest.raises(FetchError, match=r"10.00 kB free and 10.27 kB to get: make room"):
        fetch(TINY, models)


class FullDisk(hub_module.Part):
    """A file on a disk that has room for 4096 bytes."""

    def write(self, data: Any) -> int:
        room = 4096 - self.tell()
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data[:room]) or 0


class SlowDisk(hub_module.Part):
    """A file that takes 70 bytes at a time."""

    def write(self, data: Any) -> int:
        return super().write(data[:70]) or 0


def test_a_disk_that_takes_less_than_it_is_given_gets_the_rest(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "Part", SlowDisk)
    fetch(TINY, models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


def test_a_disk_that_fills_up_keeps_what_was_written(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hub_module, "Part", FullDisk)
        with pytest.raises(FetchError, match="cannot grow: No space left on device.*the same command goes on"):
            fetch(TINY, models, agreed=True)
    assert part(models).read_bytes() == WEIGHTS[:4096]
    fetch(TINY, models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


@pytest.mark.parametrize("status", [401, 403])
def test_a_closed_repository_says_what_to_accept_and_where_the_token_goes(hub: FakeHub, models: Path, tmp_path: Path, status: int) -> None:
    hub.refusals[f"/someone/tiny/resolve/{COMMIT}/model_index.json"] = (status, {"X-Error-Message": "Access is restricted"})
    with pytest.raises(FetchError) as refusal:
        fetch(TINY, models, agreed=True)
    words = (f"{hub.url}/someone/tiny", str(status), "Access is restricted", "accept its terms", "HF_TOKEN", str(tmp_path / "token"))
    assert all(word in str(refusal.value) for word in words)


def test_a_gated_repository_without_a_token_is_said_at_once(hub: FakeHub, models: Path) -> None:
    hub.gated = "manual"
    with pytest.raises(FetchError, match="is gated, and no token was found here.*accept its terms.*HF_TOKEN"):
        fetch(TINY, models, agreed=True)
    assert len(hub.requests) == 1


@pytest.mark.parametrize("from_file", [True, False])
def test_the_token_goes_to_the_hub_of_a_gated_repository_and_to_no_other_server(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, from_file: bool
) -> None:
    hub.gated = "auto"
    if from_file:
        (tmp_path / "token").write_text("secret\n")
    else:
        monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(TINY, models, agreed=True)
    sent = {path for path, headers in [*hub.requests, *hub.heads] if headers.get("Authorization") == "Bearer secret"}
    assert f"/someone/tiny/resolve/{COMMIT}/unet/model.bin" in sent
    assert hub.got(WEIGHTS_URL) and WEIGHTS_URL not in sent


def test_a_redirect_within_the_hub_keeps_the_token(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated = True
    hub.storage = ""  # a relative address
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(TINY, models, agreed=True)
    assert hub.got(WEIGHTS_URL)[0]["Authorization"] == "Bearer secret"


def test_a_public_repository_never_sees_the_token(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(TINY, models, agreed=True)
    assert not any("Authorization" in headers for _, headers in [*hub.requests, *hub.heads])


@pytest.mark.parametrize("where", ["http://example.com", "ftp://example.com", "file:///etc"])
def test_a_redirect_off_https_is_not_followed(hub: FakeHub, models: Path, where: str) -> None:
    hub.storage = where
    with pytest.raises(FetchError, match="only https is followed|is not allowed"):
        fetch(TINY, models, agreed=True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("asked", ["api", "file", "storage"])
def test_wherever_and_however_the_hub_redirects_the_token_stays_with_it(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch, status: int, asked: str
) -> None:
    """From the listing, from the file, from where that led: each time to another name and port."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.gated = "auto"
    api, file, moved = f"/api/models/someone/tiny/revision/{COMMIT}", f"/someone/tiny/resolve/{COMMIT}/unet/model.bin", "/storage/moved"
    hub.files["moved"] = WEIGHTS
    if asked == "api":
        hub.refusals[api] = (status, {"Location": hub.storage + "/api/models/someone/tiny/revision/main"})
    elif asked == "file":
        hub.refusals[file] = (status, {"Location": hub.storage + WEIGHTS_URL})
    else:
        hub.refusals[WEIGHTS_URL] = (status, {"Location": hub.url.replace("127.0.0.1", "localhost") + moved})
    fetch(TINY, models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS
    told = {host for host, _, headers in hub.seen if "secret" in str(headers)}
    assert told == {urlsplit(hub.url).netloc} < {host for host, _, _ in hub.seen}


@pytest.mark.parametrize("where", ["http://example.com/file", "ftp://example.com/file", "file:///etc/passwd"])
@pytest.mark.parametrize("asked", ["api", "file", "storage"])
def test_a_redirect_off_https_is_not_followed_from_wherever_it_leads(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch, asked: str, where: str
) -> None:
    paths = {"api": "/api/models/someone/tiny/revision/main", "file": f"/someone/tiny/resolve/{COMMIT}/unet/model.bin"}
    hub.refusals[paths.get(asked, WEIGHTS_URL)] = (302, {"Location": where})
    with pytest.raises(FetchError, match="only https is followed. Nothing was fetched"):
        fetch(TINY, models, agreed=True)
    assert not list(models.rglob("*.bin"))


def test_a_redirect_from_elsewhere_to_this_machine_is_not_followed() -> None:
    with pytest.raises(FetchError, match="only https is followed"):
        hub_module.require_allowed("https://example.com/file", "http://127.0.0.1:8188/interrupt")


def test_an_endpoint_without_https_is_refused(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://example.com")
    with pytest.raises(FetchError, match="must begin with https"):
        fetch(TINY, models, agreed=True)


def test_what_is_gone_is_said_with_the_page_to_look_at(hub: FakeHub, models: Path) -> None:
    hub.refusals["/api/models/someone/tiny/revision/main"] = (404, {})
    with pytest.raises(FetchError, match=f"not there .404.*look at {hub.url}/someone/tiny"):
        fetch(TINY, models, agreed=True)


def test_a_repository_that_lost_a_file_is_said(hub: FakeHub, models: Path) -> None:
    hub.listing = [item for item in hub.listing if item["rfilename"] != "unet/model.bin"]
    with pytest.raises(FetchError, match=r"has no unet/\*.bin"):
        fetch(TINY, models, agreed=True)


def test_a_machine_without_network_is_told_what_to_do(hub: FakeHub, models: Path) -> None:
    hub.close()
    with pytest.raises(FetchError, match=f"{hub.url} cannot be reached .*Connection refused.*HTTPS_PROXY"):
        fetch(TINY, models, agreed=True)


def test_a_login_page_in_the_way_is_recognised(hub: FakeHub, models: Path) -> None:
    hub.login_page = b"<html>Welcome to the hotel's network</html>"
    with pytest.raises(FetchError, match="did not answer about someone/tiny as the Hugging Face Hub does"):
        fetch(TINY, models, agreed=True)


@pytest.mark.parametrize("path", ["vocoder/..", "vocoder/..\\..\\evil", "vocoder/c:evil", "vocoder/evil\n", "vocoder/"])
def test_a_listing_cannot_name_a_place_outside_its_folder(hub: FakeHub, models: Path, path: str) -> None:
    hub.listing.append(entry(path, b"evil"))
    with pytest.raises(FetchError, match="a name that no model file has"):
        fetch(TINY, models, agreed=True)
    assert list(models.rglob("*")) == []


@pytest.mark.parametrize("path", ["../evil.bin", "/evil.bin", "unet/../../evil.bin", "a/unet/evil.bin", "unet/a.bin/evil.bin"])
def test_a_pattern_reaches_into_its_own_folder_only(hub: FakeHub, models: Path, path: str) -> None:
    hub.listing.append(entry(path, b"evil"))
    fetch(TINY, models, agreed=True)
    assert not list(models.parent.rglob("evil*"))


def test_another_file_of_the_same_name_is_left_as_it_is(hub: FakeHub, models: Path) -> None:
    weights(models).parent.mkdir(parents=True)
    weights(models).write_bytes(bytes(len(WEIGHTS)))
    with pytest.raises(FetchError, match=r"other files under the names of tiny's: .*model\.bin"):
        fetch(TINY, models, agreed=True)
    assert weights(models).read_bytes() == bytes(len(WEIGHTS))


@pytest.mark.parametrize(("answer", "fetched"), [("y", True), ("YES", True), ("n", False), ("", False)])
def test_only_a_yes_fetches(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch, answer: str, fetched: bool) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    if fetched:
        fetch(TINY, models)
    else:
        with pytest.raises(FetchError, match="nothing was fetched"):
            fetch(TINY, models)
    assert weights(models).exists() == fetched


def test_where_nobody_can_be_asked_nothing_is_fetched(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(FetchError, match="add --yes"):
        fetch(TINY, models)
    assert list(models.iterdir()) == []


def test_control_c_keeps_the_part(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    hub.cuts = [len(CONFIG), 1000, 0]
    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(FetchError, match="stopped. What was got is kept"):
        fetch(TINY, models, agreed=True)
    assert part(models).read_bytes() == WEIGHTS[:1000]


def test_two_at_once_do_not_write_one_file(hub: FakeHub, models: Path) -> None:
    with FileLock(models / ".fetch.lock"), pytest.raises(FetchError, match="another fetch into .* is at work"):
        fetch(TINY, models, agreed=True)
    assert not weights(models).exists()
    fetch(TINY, models, agreed=True)
    assert weights(models).exists()


def test_a_folder_that_cannot_be_written_is_named(hub: FakeHub, models: Path) -> None:
    (models / "diffusers").write_text("a file where a folder should be")
    with pytest.raises(FetchError, match="diffusers.*--into names another"):
        fetch(TINY, models, agreed=True)


def test_into_must_be_a_models_folder(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not a folder"):
        fetch(TINY, tmp_path / "modles")
    (tmp_path / "main.py").touch()
    with pytest.raises(FetchError, match="ComfyUI's own folder: name the models folder"):
        fetch(TINY, tmp_path)


def test_without_into_files_go_to_the_comfyui_around_the_pack(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FetchError, match="in no ComfyUI's custom_nodes: name .* with --into"):
        fetch(TINY, agreed=True)
    named, around = tmp_path / "named", tmp_path / "ComfyUI"
    (named / "models").mkdir(parents=True)
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    fetch(TINY, agreed=True)
    assert weights(named / "models").exists()
    (around / "models").mkdir(parents=True)
    monkeypatch.setattr(fetching, "PACK", around / "custom_nodes" / "images-that-sound")
    fetch(TINY, agreed=True)
    assert weights(around / "models").exists()


def source(folder: str, *files: str, **options: Any) -> dict[str, Model]:
    return {"tiny": Model("a test", "CC BY 4.0", "unknown", (Source("someone/tiny", "main", folder, files, **options),))}


def pickled(value: Any) -> bytes:
    data = io.BytesIO()
    torch.save(value, data)
    return data.getvalue()


SCORER = source("scorers/tiny", "*.json", "merges.txt", "model.safetensors|pytorch_model.bin", convert=True)


def test_a_scorer_that_there_is_as_a_pickle_only_is_kept_as_safetensors_and_loads(
    hub: FakeHub, models: Path, capsys: pytest.CaptureFixture
) -> None:
    files = {path.name: path.read_bytes() for path in CLIP_FOLDER.iterdir() if path.suffix in (".json", ".txt")}
    theirs = load_file(CLIP_FOLDER / "model.safetensors")
    hub.holds({**files, "pytorch_model.bin": pickled(theirs)})
    fetch(SCORER, models, agreed=True)
    folder = models / "scorers" / "tiny"
    assert not list(folder.glob("pytorch_model*")) and not list(folder.glob("*.part")) and not list(folder.glob("*.new"))
    ours = PictureScorer.load(folder).model.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert "model.safetensors  (made from pytorch_model.bin)" in capsys.readouterr().out
    hub.requests.clear()
    fetch(SCORER, models)
    assert [path for path, _ in hub.requests if "/resolve/" in path] == []


def test_weights_that_share_memory_are_kept_whole(hub: FakeHub, models: Path) -> None:
    row = torch.arange(4.0)
    hub.holds({"config.json": b"{}", "merges.txt": b"", "pytorch_model.bin": pickled({"a": row, "b": row[1:], "c": row.view(2, 2).T})})
    fetch(SCORER, models, agreed=True)
    came = load_file(models / "scorers" / "tiny" / "model.safetensors")
    assert came["b"].tolist() == [1, 2, 3] and came["c"].tolist() == [[0, 2], [1, 3]]


def test_safetensors_are_preferred_to_a_pickle_of_the_same(hub: FakeHub, models: Path) -> None:
    hub.holds({"config.json": b"{}", "merges.txt": b"", "model.safetensors": b"these", "pytorch_model.bin": b"not these"})
    fetch(SCORER, models, agreed=True)
    folder = models / "scorers" / "tiny"
    assert (folder / "model.safetensors").read_bytes() == b"these" and not (folder / "pytorch_model.bin").exists()
    assert not hub.got(f"/someone/tiny/resolve/{COMMIT}/pytorch_model.bin")


def test_safetensors_of_the_users_own_are_not_taken_for_the_pickles(hub: FakeHub, models: Path) -> None:
    hub.holds({"config.json": b"{}", "merges.txt": b"", "pytorch_model.bin": pickled({"a": torch.ones(1)})})
    own = models / "scorers" / "tiny" / "model.safetensors"
    own.parent.mkdir(parents=True)
    save_file({"a": torch.zeros(1)}, own)
    for _ in range(2):
        before = own.read_bytes()
        with pytest.raises(FetchError, match=r"other files under the names of tiny's: .*model\.safetensors"):
            fetch(SCORER, models, agreed=True)
        assert own.read_bytes() == before
        own.write_bytes(b"damaged")


class Harmful:
    ran = False

    def __reduce__(self) -> Any:
        return setattr, (Harmful, "ran", True)


def test_a_pickle_with_code_in_it_is_not_run(hub: FakeHub, models: Path) -> None:
    hub.holds({"config.json": b"{}", "merges.txt": b"", "pytorch_model.bin": pickled({"a": Harmful()})})
    with pytest.raises(FetchError, match="pytorch_model.bin does not hold plain weights"):
        fetch(SCORER, models, agreed=True)
    assert not Harmful.ran and not (models / "scorers" / "tiny" / "model.safetensors").exists()


def test_a_pickle_with_another_hash_is_not_even_opened(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.holds({"config.json": b"{}", "merges.txt": b"", "pytorch_model.bin": pickled({"a": torch.ones(1)})})
    hub.files["pytorch_model.bin"] = bytes(len(hub.files["pytorch_model.bin"]))
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(FetchError, match="pytorch_model.bin came with another hash"):
        fetch(SCORER, models, agreed=True)


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})


def test_the_command_lists_and_refuses_without_what_comfyuis_python_has_and_says_where_to_find_that() -> None:
    listed = run("-I", "-S", REPO / "fetch.py").stdout  # as strict as the portable build's Python
    assert all(f"  {name}\n" in listed for name in ("sd15", "auffusion", "clip", "clap", "if"))
    assert "python fetch.py NAME" in listed and "CC BY-NC-SA 4.0" in listed and "unverified" in listed
    unknown = run("-S", REPO / "fetch.py", "sd16", "clip")
    assert unknown.returncode == 1 and "no model is known as sd16: choose from sd15" in unknown.stdout
    elsewhere = run("-S", REPO / "fetch.py", "clip")
    assert elsewhere.returncode == 1 and "ComfyUI's own Python has it" in elsewhere.stdout


def test_the_command_says_on_a_machine_without_network_what_to_do(hub: FakeHub, models: Path) -> None:
    hub.close()
    alone = run(REPO / "fetch.py", "clip", "--into", models, "--yes", HF_ENDPOINT=hub.url)
    assert alone.returncode == 1 and f"fetch: {hub.url} cannot be reached" in alone.stdout and "Traceback" not in alone.stderr
    switched_off = run(REPO / "fetch.py", "clip", "--into", models, "--yes", HF_HUB_OFFLINE="1", HF_ENDPOINT=hub.url)
    assert switched_off.returncode == 1 and "unset the `HF_HUB_OFFLINE`" in switched_off.stdout


def test_every_source_of_the_table_can_be_used() -> None:
    for name, model in MODELS.items():
        assert model.licence and model.size
        for source in model.sources:
            assert source.repository.count("/") == 1 and source.files
            if source.save_as or source.sha256:
                assert len(source.files) == 1 and not {"*", "|"} & set(source.files[0]), name
