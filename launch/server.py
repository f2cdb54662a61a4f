"""A ComfyUI server in a process of its own, spoken to as a browser does: HTTP for prompts, a web socket for progress."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .environment import INPUTS, QuickstartError, link_pack

HOST = "127.0.0.1"
START_LIMIT = 600.0
STARTS = 3
"""How often a port of its own choice may be taken by another program before ComfyUI, which needs some seconds, listens there."""
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def free_port(preferred: int = 0) -> int:
    """`preferred`, if nothing listens there, else any free port."""
    with socket.socket() as probe:
        if sys.platform != "win32":  # where it would give a port on which another listens
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an ended server may linger for a minute
        try:
            probe.bind((HOST, preferred))
        except OSError:
            probe.bind((HOST, 0))
        return probe.getsockname()[1]


class Events:
    """The server's messages to one client, over the few lines of a web socket (RFC 6455) that a reader needs."""

    def __init__(self, port: int, client: str) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws?clientId={client} HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        status = self.stream.readline()
        if b" 101 " not in status:
            raise ConnectionError(f"the server refused the web socket: {status!r}")
        while self.stream.readline().strip():
            pass
        self.socket.settimeout(None)

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(type, data) of each message; previews, which are binary, are left out."""
        while True:
            kind, payload = self._frame()
            if kind == CLOSE:
                return
            if kind == PING:
                self.socket.sendall(bytes([0x80 | PONG, 0x80 | len(payload)]) + bytes(4) + payload)  # a zero mask changes nothing
            elif kind == TEXT:
                message = json.loads(payload)
                yield message["type"], message["data"]

    def _frame(self) -> tuple[int, bytes]:
        first, length = self._read(2)
        if length == 126:
            (length,) = struct.unpack(">H", self._read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._read(8))
        return first & 0x0F, self._read(length)

    def _read(self, count: int) -> bytes:
        data = self.stream.read(count)
        if len(data) < count:
            raise ConnectionError("the server closed the connection")
        return data

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


class Server:
    """`with Server(...) as server:` a running ComfyUI with this pack and what its templates load in it, stopped at the end.

    `base` holds its models, custom nodes, input and user folders, so that ComfyUI's own tree stays as it was; `output` is where its save
    nodes write; everything it says goes into `base/comfyui.log`. Without `port` it takes a free one.

    Raises QuickstartError when ComfyUI ends while it starts, or does not answer in time; what another server answers at its port is not
    taken for its own.
    """

    def __init__(self, python: Path, comfyui: Path, base: Path, output: Path, port: int = 0, options: tuple[str, ...] = ()) -> None:
        self.base, self.output, self.log = base, output, base / "comfyui.log"
        self.port, self._starts = (port, 1) if port else (free_port(), STARTS)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file: IO[bytes] | None = None
        self.command = [
            str(python), str(comfyui / "main.py"), "--listen", HOST,
            "--base-directory", str(base), "--output-directory", str(output),
            "--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}",
            "--use-pytorch-cross-attention", "--preview-method", "auto", "--disable-auto-launch",
            "--disable-api-nodes", *options,
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Server:
        for folder in (self.base / "user", self.output):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(INPUTS, self.base / "input", dirs_exist_ok=True)
        link_pack(self.base / "custom_nodes")
        self._log_file = self.log.open("wb")
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        for left in reversed(range(self._starts)):
            command = [*self.command, "--port", str(self.port)]
            self._process = subprocess.Popen(command, stdout=self._log_file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            if self._answers():
                return
            if not left or free_port(self.port) == self.port:
                raise QuickstartError(f"ComfyUI stopped while it was starting. The end of {self.log}:\n{self.log_tail()}")
            self.port = free_port()

    def _answers(self) -> bool:
        """Wait until it answers: True; or until it ended: False."""
        end = time.monotonic() + START_LIMIT
        while time.monotonic() < end:
            if not self.running:
                return False
            try:
                if str(self.base) in self.get("/system_stats")["system"]["argv"]:
                    return True
            except (OSError, ValueError, LookupError, TypeError):  # nothing listens yet, or a program that is no ComfyUI
                pass
            time.sleep(0.25)
        raise QuickstartError(f"ComfyUI did not answer at {self.url} within {START_LIMIT:.0f} s. The end of {self.log}:\n{self.log_tail()}")

    def __exit__(self, *_: object) -> None:
        assert self._log_file
        self._log_file.close()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Until the server ends by itself."""
        assert self._process
        self._process.wait()

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def get(self, path: str) -> Any:
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        return self._request(path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self._request(path, json.dumps(body).encode())
        return json.loads(answer) if answer else None

    def _request(self, path: str, body: bytes | None) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.read()

    def run(self, prompt: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Queue an API prompt and yield the server's messages about it; ends when it is done.

        Raises QuickstartError when the server refuses the prompt, when a node fails, and when it is interrupted.
        """
        client = uuid.uuid4().hex
        events = Events(self.port, client)
        try:
            try:
                queued = self.post("/prompt", {"prompt": prompt, "client_id": client})
            except urllib.error.HTTPError as refusal:
                raise QuickstartError(f"ComfyUI refused the prompt: {_refusal(json.load(refusal))}") from None
            for kind, data in events:
                if data.get("prompt_id") != queued["prompt_id"]:
                    continue
                if kind == "execution_error":
                    raise QuickstartError(f"{data['node_type']} failed: {data['exception_message'].strip()}")
                if kind == "execution_interrupted":
                    raise QuickstartError("the run was cancelled")
                yield kind, data
                if kind == "execution_success":
                    return
        finally:
            events.close()

    def saved(self, executed: dict[str, Any]) -> list[Path]:
        """The files that a node saved for good, by its "executed" message."""
        items = [item for items in (executed["output"] or {}).values() for item in items if isinstance(item, dict)]
        return [self.output / item["subfolder"] / item["filename"] for item in items if item.get("type") == "output"]

    def files_of(self, prompt: dict[str, Any]) -> list[Path]:
        """Run an API prompt; the files that its nodes saved."""
        return [path for kind, data in self.run(prompt) if kind == "executed" for path in self.saved(data)]


def _refusal(answer: dict[str, Any]) -> str:
    nodes = [
        f"{node['class_type']}: {error['message']} ({error['details']})"
        for node in (answer.get("node_errors") or {}).values()
        for error in node["errors"]
    ]
    return "; ".join(nodes) or answer["error"]["message"]
