"""`--fetch` against a Hub on this machine: what breaks goes on, what is wrong is refused, and nothing happens unasked."""

from __future__ import annotations

import errno
import hashlib
import http.server
import json
import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPMessage
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from launch import download, environment, fetch
from launch.environment import QuickstartError
from launch.hub import Hub, Redirects
from launch.models import Model, Source

COMMIT = "c0ffee" * 6 + "cafe"
WEIGHTS = bytes(range(256)) * 40
CONFIG = b'{"kind": "test"}\n'
FILES = {"model_index.json": CONFIG, "unet/model.bin": WEIGHTS, "vocoder/config.json": CONFIG, "unet/unwanted.onnx": b"no"}
LARGE = {"unet/model.bin"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.requests.append((path, dict(self.headers)))
        if path in hub.refusals:
            status, headers = hub.refusals[path]
            self.answer(status, b"", headers)
        elif path == "/api/models/someone/tiny/revision/main":
            record = {"id": "someone/tiny", "sha": COMMIT, "cardData": {"license": "cc-by-4.0"}, "gated": hub.gated}
            self.answer(200, hub.login_page or json.dumps(record).encode())
        elif path == f"/api/models/someone/tiny/tree/{COMMIT}":
            self.answer(200, json.dumps(hub.listing).encode())
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
        self.refusals: dict[str, tuple[int, dict[str, str]]] = {}
        self.files = dict(FILES)
        self.listing = [{"type": "directory", "path": "unet", "oid": "0", "size": 0}, *(entry(path, data) for path, data in FILES.items())]
        self.cuts: list[int] = []
        self.honours_range = True
        self.gated: bool | str = False
        self.stated_size: int | None = None
        self.login_page: bytes | None = None
        handler = type("HandlerOfThis", (Handler,), {"hub": self})
        self.servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self.servers)

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def got(self, path: str) -> list[dict[str, str]]:
        return [headers for requested, headers in self.requests if requested == path]


def entry(path: str, data: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    large = {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}} if path in LARGE else {}
    return {"type": "file", "path": path, "size": len(data), "oid": blob, **large}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    fake = FakeHub()
    for name in ("HF_TOKEN", "HF_HOME", "COMFYUI_PATH", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", fake.url)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(environment, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    files = ("model_index.json", "unet/*.bin", "vocoder/*")
    source = Source("someone/tiny", "main", "diffusers/tiny", files)
    monkeypatch.setattr(fetch, "MODELS", {"tiny": Model("a test", "CC BY 4.0", "unknown", (source,))})
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
    return download.part_of(weights(models))


def test_wanted_files_come_to_their_place_with_a_record_beside_them(hub: FakeHub, models: Path, capsys: pytest.CaptureFixture) -> None:
    fetch.fetch(["tiny"], models, agreed=True)
    folder = models / "diffusers" / "tiny"
    record = json.loads((folder / "fetched-tiny.json").read_text())
    came = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del came["fetched-tiny.json"]
    assert came == {path: data for path, data in FILES.items() if path != "unet/unwanted.onnx"}
    assert COMMIT in record["from"] and record["files"]["unet/model.bin"]["digest"] == f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("CC BY 4.0", "cc-by-4.0", "10.24 kB  unet/model.bin", "someone/tiny", str(folder)))


def test_a_second_run_gets_nothing_and_asks_nothing(hub: FakeHub, models: Path, capsys: pytest.CaptureFixture) -> None:
    fetch.fetch(["tiny"], models, agreed=True)
    hub.requests.clear()
    fetch.fetch(["tiny"], models)
    assert [path for path, _ in hub.requests if "/resolve/" in path] == []
    assert "nothing to get" in capsys.readouterr().out


def test_huggingfaces_own_client_reads_this_hub_as_we_do(hub: FakeHub) -> None:
    """So that what the other tests talk to is a Hub, and not only what this module takes for one."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    client, ours = huggingface_hub.HfApi(endpoint=hub.url), Hub()
    info, repository = client.model_info("someone/tiny", revision="main"), ours.repository("someone/tiny", "main")
    assert (info.sha, info.card_data.license, info.gated) == (repository.commit, repository.licence, repository.gated)
    theirs = [item for item in client.list_repo_tree("someone/tiny", revision=COMMIT, recursive=True) if item.path != "unet"]
    digests = [f"sha256:{file.lfs.sha256}" if file.lfs else f"git:{file.blob_id}" for file in theirs]
    assert [(file.path, file.size) for file in theirs] == [(file.path, file.size) for file in ours.files(repository)]
    assert digests == [file.digest for file in ours.files(repository)]


def test_a_cut_connection_is_taken_up_again_where_it_broke(hub: FakeHub, models: Path) -> None:
    hub.cuts = [len(CONFIG), 1000, 2000]
    fetch.fetch(["tiny"], models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS
    assert [headers.get("Range") for headers in hub.got(WEIGHTS_URL)] == [None, "bytes=1000-", "bytes=3000-"]


def test_a_later_run_goes_on_from_the_part_that_an_earlier_one_left(hub: FakeHub, models: Path, capsys: pytest.CaptureFixture) -> None:
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(WEIGHTS[:7000])
    fetch.fetch(["tiny"], models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS and not part(models).exists()
    assert [headers.get("Range") for headers in hub.got(WEIGHTS_URL)] == ["bytes=7000-"]
    assert "7.00 kB of it there" in capsys.readouterr().out


def test_a_part_that_is_longer_than_the_file_is_begun_anew(hub: FakeHub, models: Path) -> None:
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(bytes(20_000))
    fetch.fetch(["tiny"], models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


def test_a_server_that_knows_no_ranges_sends_the_file_anew(hub: FakeHub, models: Path) -> None:
    hub.honours_range, hub.cuts = False, [len(CONFIG), 1000]
    fetch.fetch(["tiny"], models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


def test_what_a_server_without_ranges_broke_off_is_not_mixed_with_an_earlier_part(hub: FakeHub, models: Path) -> None:
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(bytes(7000))
    hub.honours_range, hub.cuts = False, [len(CONFIG), *[1000] * download.TRIES]
    with pytest.raises(QuickstartError, match="could not be got"):
        fetch.fetch(["tiny"], models, agreed=True)
    assert part(models).read_bytes() == WEIGHTS[:1000]


def test_a_connection_that_never_gets_further_is_given_up_and_the_part_kept(hub: FakeHub, models: Path) -> None:
    hub.cuts = [len(CONFIG), 1000, *[0] * download.TRIES]
    with pytest.raises(QuickstartError, match=r"ended too early. 1.00 kB of 10.24 kB are kept .* goes on from there"):
        fetch.fetch(["tiny"], models, agreed=True)
    assert part(models).read_bytes() == WEIGHTS[:1000]
    fetch.fetch(["tiny"], models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


def test_a_server_that_always_breaks_off_at_the_same_byte_is_given_up(hub: FakeHub, models: Path) -> None:
    hub.honours_range, hub.cuts = False, [len(CONFIG), *[1000] * 99]
    with pytest.raises(QuickstartError, match="could not be got"):
        fetch.fetch(["tiny"], models, agreed=True)


def test_an_overloaded_server_is_asked_again(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.refusals[WEIGHTS_URL] = (503, {})
    monkeypatch.setattr(download.time, "sleep", lambda _: hub.refusals.clear())
    fetch.fetch(["tiny"], models, agreed=True)
    assert len(hub.got(WEIGHTS_URL)) == 2


@pytest.mark.parametrize("kept", [0, 5000])
def test_a_wrong_size_is_refused_before_anything_is_written_over(hub: FakeHub, models: Path, kept: int) -> None:
    part(models).parent.mkdir(parents=True)
    part(models).write_bytes(WEIGHTS[:kept])
    hub.refusals[WEIGHTS_URL] = (200, {})  # an empty page, as of a network's login
    with pytest.raises(QuickstartError, match="is listed with 10240 bytes, but"):
        fetch.fetch(["tiny"], models, agreed=True)
    assert part(models).read_bytes() == WEIGHTS[:kept]


@pytest.mark.parametrize("path", ["unet/model.bin", "model_index.json"])
def test_a_wrong_hash_is_refused_and_the_file_deleted(hub: FakeHub, models: Path, path: str) -> None:
    hub.files[path] = bytes(len(FILES[path]))
    with pytest.raises(QuickstartError, match=f"{path} came with another hash"):
        fetch.fetch(["tiny"], models, agreed=True)
    target = models / "diffusers" / "tiny" / path
    assert not target.exists() and not download.part_of(target).exists()


def test_a_file_known_by_its_hash_is_not_taken_from_a_listing_with_another(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source("someone/tiny", "main", "checkpoints", ("unet/model.bin",), save_as="tiny.bin", sha256="0" * 64)
    monkeypatch.setattr(fetch, "MODELS", {"tiny": Model("a test", "CC BY 4.0", "unknown", (source,))})
    with pytest.raises(QuickstartError, match="is not the known file"):
        fetch.fetch(["tiny"], models, agreed=True)


def test_a_full_disk_is_said_before_the_question(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10_000})())
    with pytest.raises(QuickstartError, match=r"10.00 kB free and 10.27 kB to get: make room"):
        fetch.fetch(["tiny"], models)


class FullDisk(FileIO):
    """A file on a disk that has room for 4096 bytes."""

    def write(self, data: Any) -> int:
        room = 4096 - self.tell()
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data[:room]) or 0


class SlowDisk(FileIO):
    """A file that takes 700 bytes at a time."""

    def write(self, data: Any) -> int:
        return super().write(data[:700]) or 0


def open_parts_as(kind: type[FileIO], patch: pytest.MonkeyPatch) -> None:
    really_open = Path.open
    patch.setattr(Path, "open", lambda path, mode="r", *_, **__: (kind if mode == "r+b" else really_open)(path, mode))


def test_a_disk_that_takes_less_than_it_is_given_gets_the_rest(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "CHUNK", 1000)
    open_parts_as(SlowDisk, monkeypatch)
    fetch.fetch(["tiny"], models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


def test_a_disk_that_fills_up_keeps_what_was_written(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        open_parts_as(FullDisk, patch)
        with pytest.raises(QuickstartError, match="cannot grow: No space left on device.*the same command goes on"):
            fetch.fetch(["tiny"], models, agreed=True)
    assert part(models).read_bytes() == WEIGHTS[:4096]
    fetch.fetch(["tiny"], models, agreed=True)
    assert weights(models).read_bytes() == WEIGHTS


@pytest.mark.parametrize("status", [401, 403])
def test_a_closed_repository_says_what_to_accept_and_where_the_token_goes(hub: FakeHub, models: Path, tmp_path: Path, status: int) -> None:
    hub.refusals[f"/someone/tiny/resolve/{COMMIT}/model_index.json"] = (status, {"X-Error-Message": "Access is restricted"})
    with pytest.raises(QuickstartError) as refusal:
        fetch.fetch(["tiny"], models, agreed=True)
    words = (f"{hub.url}/someone/tiny", str(status), "Access is restricted", "accept its terms", "HF_TOKEN", str(tmp_path / "token"))
    assert all(word in str(refusal.value) for word in words)


def test_a_gated_repository_without_a_token_is_said_at_once(hub: FakeHub, models: Path) -> None:
    hub.gated = "manual"
    with pytest.raises(QuickstartError, match="is gated, and no token was found here.*accept its terms.*HF_TOKEN"):
        fetch.fetch(["tiny"], models, agreed=True)
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
    fetch.fetch(["tiny"], models, agreed=True)
    sent = {path for path, headers in hub.requests if headers.get("Authorization") == "Bearer secret"}
    assert f"/someone/tiny/resolve/{COMMIT}/unet/model.bin" in sent
    assert hub.got(WEIGHTS_URL) and WEIGHTS_URL not in sent


def test_a_redirect_within_the_hub_keeps_the_token(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated = True
    hub.storage = ""  # a relative address
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch.fetch(["tiny"], models, agreed=True)
    assert hub.got(WEIGHTS_URL)[0]["Authorization"] == "Bearer secret"


def test_a_public_repository_never_sees_the_token(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch.fetch(["tiny"], models, agreed=True)
    assert not any("Authorization" in headers for _, headers in hub.requests)


@pytest.mark.parametrize("where", ["http://example.com", "ftp://example.com", "file:///etc"])
def test_a_redirect_off_https_is_not_followed(hub: FakeHub, models: Path, where: str) -> None:
    hub.storage = where
    with pytest.raises(QuickstartError, match="only https is followed|is not allowed"):
        fetch.fetch(["tiny"], models, agreed=True)


def test_a_redirect_from_elsewhere_to_this_machine_is_not_followed() -> None:
    elsewhere = urllib.request.Request("https://example.com/file")
    with pytest.raises(QuickstartError, match="only https is followed"):
        Redirects().redirect_request(elsewhere, BytesIO(), 302, "Found", HTTPMessage(), "http://127.0.0.1:8188/interrupt")


def test_an_endpoint_without_https_is_refused(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://example.com")
    with pytest.raises(QuickstartError, match="must begin with https"):
        fetch.fetch(["tiny"], models, agreed=True)


def test_what_is_gone_is_said_with_the_page_to_look_at(hub: FakeHub, models: Path) -> None:
    hub.refusals["/api/models/someone/tiny/revision/main"] = (404, {})
    with pytest.raises(QuickstartError, match=f"not there .404.*look at {hub.url}/someone/tiny"):
        fetch.fetch(["tiny"], models, agreed=True)


def test_a_repository_that_lost_a_file_is_said(hub: FakeHub, models: Path) -> None:
    hub.listing = [item for item in hub.listing if item["path"] != "unet/model.bin"]
    with pytest.raises(QuickstartError, match=r"has no unet/\*.bin"):
        fetch.fetch(["tiny"], models, agreed=True)


def test_a_machine_without_network_is_told_what_to_do(hub: FakeHub, models: Path) -> None:
    hub.close()
    with pytest.raises(QuickstartError, match=f"{hub.url} cannot be reached .*Connection refused.*HTTPS_PROXY"):
        fetch.fetch(["tiny"], models, agreed=True)


def test_a_login_page_in_the_way_is_recognised(hub: FakeHub, models: Path) -> None:
    hub.login_page = b"<html>Welcome to the hotel's network</html>"
    with pytest.raises(QuickstartError, match="did not answer about someone/tiny as the Hugging Face Hub does"):
        fetch.fetch(["tiny"], models, agreed=True)


@pytest.mark.parametrize("path", ["vocoder/..", "vocoder/..\\..\\evil", "vocoder/c:evil", "vocoder/evil\n", "vocoder/"])
def test_a_listing_cannot_name_a_place_outside_its_folder(hub: FakeHub, models: Path, path: str) -> None:
    hub.listing.append(entry(path, b"evil"))
    with pytest.raises(QuickstartError, match="a name that no model file has"):
        fetch.fetch(["tiny"], models, agreed=True)
    assert list(models.rglob("*")) == []


@pytest.mark.parametrize("path", ["../evil.bin", "/evil.bin", "unet/../../evil.bin", "a/unet/evil.bin", "unet/a.bin/evil.bin"])
def test_a_pattern_reaches_into_its_own_folder_only(hub: FakeHub, models: Path, path: str) -> None:
    hub.listing.append(entry(path, b"evil"))
    fetch.fetch(["tiny"], models, agreed=True)
    assert not list(models.parent.rglob("evil*"))


def test_another_file_of_the_same_name_is_left_as_it_is(hub: FakeHub, models: Path) -> None:
    weights(models).parent.mkdir(parents=True)
    weights(models).write_bytes(bytes(len(WEIGHTS)))
    with pytest.raises(QuickstartError, match=r"other files under the names of tiny's: .*model\.bin"):
        fetch.fetch(["tiny"], models, agreed=True)
    assert weights(models).read_bytes() == bytes(len(WEIGHTS))


@pytest.mark.parametrize(("answer", "fetched"), [("y", True), ("YES", True), ("n", False), ("", False)])
def test_only_a_yes_fetches(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch, answer: str, fetched: bool) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    if fetched:
        fetch.fetch(["tiny"], models)
    else:
        with pytest.raises(QuickstartError, match="nothing was fetched"):
            fetch.fetch(["tiny"], models)
    assert weights(models).exists() == fetched


def test_where_nobody_can_be_asked_nothing_is_fetched(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(QuickstartError, match="add --yes"):
        fetch.fetch(["tiny"], models)
    assert list(models.iterdir()) == []


def test_control_c_keeps_the_part(hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    hub.cuts = [len(CONFIG), 1000, 0]
    monkeypatch.setattr(download.time, "sleep", interrupt)
    with pytest.raises(QuickstartError, match="stopped. What was got is kept"):
        fetch.fetch(["tiny"], models, agreed=True)
    assert part(models).read_bytes() == WEIGHTS[:1000]


def test_two_at_once_do_not_write_one_file(hub: FakeHub, models: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with closing(sqlite3.connect(tmp_path / "cache" / "fetch-lock", isolation_level=None)) as first:
        first.execute("BEGIN EXCLUSIVE")
        with pytest.raises(QuickstartError, match="another --fetch is at work"):
            fetch.fetch(["tiny"], models, agreed=True)


def test_a_folder_that_cannot_be_written_is_named(hub: FakeHub, models: Path) -> None:
    (models / "diffusers").write_text("a file where a folder should be")
    with pytest.raises(QuickstartError, match="diffusers.*--into names another"):
        fetch.fetch(["tiny"], models, agreed=True)


def test_into_must_be_a_models_folder(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(QuickstartError, match="not a folder"):
        fetch.fetch(["tiny"], tmp_path / "modles")
    (tmp_path / "main.py").touch()
    with pytest.raises(QuickstartError, match="ComfyUI's own folder: name the models folder"):
        fetch.fetch(["tiny"], tmp_path)


def test_without_into_files_go_where_the_server_looks(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch.fetch(["tiny"], agreed=True)
    assert weights(environment.serve_folder() / "models").exists()
    own = tmp_path / "ComfyUI"
    own.mkdir()
    (own / "main.py").touch()
    monkeypatch.setenv("COMFYUI_PATH", str(own))
    fetch.fetch(["tiny"], agreed=True)
    assert weights(own / "models").exists()


def test_names_are_listed_without_a_network_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture) -> None:
    fetch.fetch([])
    listed = capsys.readouterr().out
    assert all(f"  {name}\n" in listed for name in ("sd15", "auffusion", "clip", "clap", "if"))
    assert "CC BY-NC-SA 4.0" in listed and "unverified" in listed
    with pytest.raises(QuickstartError, match="no model is known as sd16: choose from sd15"):
        fetch.fetch(["sd16"])


def test_every_source_of_the_table_can_be_used() -> None:
    for name, model in fetch.MODELS.items():
        assert model.licence and model.size
        for source in model.sources:
            assert source.repository.count("/") == 1 and source.files
            if source.save_as or source.sha256:
                assert len(source.files) == 1 and "*" not in source.files[0], name
