"""One file from the Hub to its place: it grows beside it as `.part`, goes on where it broke off, and is checked before it gets its name."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from http.client import HTTPException, HTTPResponse
from io import FileIO
from pathlib import Path

from .environment import QuickstartError
from .hub import File, Hub

CHUNK = 1 << 20
TRIES = 5  # in a row without a new byte


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def bytes_there(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def download(hub: Hub, file: File, target: Path) -> None:
    """Get `file` to `target`, from where an earlier try left off.

    Raises QuickstartError when the connection keeps breaking, the disk refuses, or what came is not what the repository lists. What came is
    kept, unless it is whole and its hash is wrong.
    """
    part = part_of(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not part.exists() or bytes_there(part) > file.size:
        part.write_bytes(b"")
    _fill(hub, file, part)
    if checksum(part, file.digest) != file.digest:
        part.unlink()
        raise QuickstartError(f"{file.path} came with another hash than listed. It was deleted; the same command gets it anew.")
    os.replace(part, target)


def _fill(hub: Hub, file: File, part: Path) -> None:
    most, failures = bytes_there(part), 0
    while bytes_there(part) < file.size:
        try:
            with hub.open(file, bytes_there(part)) as response:
                _append(response, file, part)
            error = "the connection ended too early"
        except (OSError, HTTPException) as broken:
            error = str(broken)
        if bytes_there(part) > most:
            most, failures = bytes_there(part), 0
        elif (failures := failures + 1) == TRIES:
            raise QuickstartError(
                f"{file.path} could not be got from {hub.endpoint}: {error}. {amount(bytes_there(part))} of {amount(file.size)} are kept "
                f"in {part}; with the network back, the same command goes on from there."
            )
        else:
            time.sleep(2 ** (failures - 1))


def _append(response: HTTPResponse, file: File, part: Path) -> None:
    """Write what the response brings behind what is there, or in its place where the server began anew."""
    there = bytes_there(part)
    start, total = _stated(response)
    if start not in (0, there) or (total != file.size and (there or total is not None)):
        raise _another_size(file, f"what comes begins at byte {start} of {total or 'an unknown number'}")
    progress = Progress(file.path, start, file.size)
    with part.open("r+b", buffering=0) as output:
        output.truncate(start)
        output.seek(start)
        while chunk := response.read(CHUNK):
            if output.tell() + len(chunk) > file.size:
                raise _another_size(file, "the server sent more")
            _write(output, chunk, part)
            progress(output.tell())


def _stated(response: HTTPResponse) -> tuple[int, int | None]:
    """Where in the file the response begins, and the size of the whole, if the server states it."""
    if response.status == 206 and (found := re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))):
        return int(found[1]), int(found[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length else None


def _write(output: FileIO, chunk: bytes, part: Path) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[output.write(rest) :]
    except OSError as error:
        raise QuickstartError(
            f"{part} cannot grow: {error.strerror}. What was got is kept there: with room made, the same command goes on from there. "
            "Or name a folder on another disk with --into."
        ) from None


def _another_size(file: File, what: str) -> QuickstartError:
    return QuickstartError(f"{file.path} is listed with {file.size} bytes, but {what}. Is there a proxy or a login page between?")


def checksum(path: Path, like: str) -> str:
    """The file's digest, of the kind that `like` is: `sha256:<hex>`, or `git:<hex>`, the id git gives its contents."""
    kind, size = like.partition(":")[0], path.stat().st_size
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    progress = Progress(f"checking {path.name.removesuffix('.part')}", 0, size)
    with path.open("rb") as data:
        while chunk := data.read(CHUNK):
            digest.update(chunk)
            progress(data.tell())
    return f"{kind}:{digest.hexdigest()}"


def amount(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} bytes"


class Progress:
    """How far, how fast and how long still, on one line of a terminal that is overwritten; elsewhere a line each half minute."""

    def __init__(self, label: str, done: int, total: int) -> None:
        self.label, self.first, self.total = label, done, total
        self.live = sys.stdout.isatty()
        self.began = self.shown = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if done == self.total and self.live:
            print("\r\033[K", end="", flush=True)
        elif now - self.shown > (0.2 if self.live else 30):
            self.shown = now
            rate = (done - self.first) / (now - self.began)
            minutes, seconds = divmod(round((self.total - done) / rate) if rate else 0, 60)
            line = f"  {100 * done / self.total:3.0f} %  {amount(rate)}/s, {minutes}:{seconds:02} left  {self.label}"
            print(f"\r\033[K{line}" if self.live else line, end="" if self.live else "\n", flush=True)
