"""ComfyUI's main.py in a process that refuses the network, and notes what the pack does beyond its own folders.

    python watched.py NOTES BASE MAIN.PY OPTIONS ...

Python's audit hooks see every connection, name lookup, new process and file, whoever asks, also from compiled code that uses Python's
modules. What would leave this machine raises PermissionError and is noted with the line of the pack that led there, or that none did; a
process that the pack starts and a file that it writes outside of BASE are noted. A note is a line of NOTES.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parent.parent.parent
ROOMS = tuple(str(PACK / room) + os.sep for room in ("bridge", "itsound_core", "nodes", "published"))
HERE = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "", None}
PROCESSES = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.startfile"}
CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree", "os.chmod"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def leaves_this_machine(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an event of Python's socket module is for another machine."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        return isinstance(address, tuple) and address[0] not in HERE  # a text or bytes is a socket in the file system
    host = arguments[0] if arguments else None
    return event in ("socket.getaddrinfo", "socket.gethostbyname") and (host.decode() if isinstance(host, bytes) else host) not in HERE


def line_of_the_pack() -> str | None:
    """The innermost line of the pack that is being run."""
    frame = sys._getframe(2)
    while frame:
        path = os.path.realpath(frame.f_code.co_filename)
        if path.startswith(ROOMS):
            return f"{path[len(str(PACK)) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def written(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """Paths that an event creates, changes or removes."""
    if event == "open":
        path, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & WRITING)
        return [os.fsdecode(path)] if writes and not isinstance(path, int) else []
    return [os.fsdecode(path) for path in arguments[:2] if isinstance(path, (str, bytes, os.PathLike))] if event in CHANGES else []


def watch(notes: Path, base: Path) -> None:
    """Begin to note; it cannot be ended."""
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    allowed = (str(base.absolute()), os.devnull)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith("socket."):
            if leaves_this_machine(event, arguments):
                os.write(file, f"{event} {arguments[-2:]!r} by {line_of_the_pack()}\n".encode())
                raise PermissionError(f"the tests allow no network: {event} {arguments[-2:]!r}")
        elif event in PROCESSES or event == "open" or event in CHANGES:
            paths = written(event, arguments)
            outside = [path for path in paths if not os.path.abspath(path).startswith(allowed)]  # links in BASE are the user's
            if (outside or event in PROCESSES) and (line := line_of_the_pack()):
                os.write(file, f"{event} {outside or arguments[:2]!r} by {line}\n".encode())

    sys.addaudithook(hook)


if __name__ == "__main__":
    notes, base, main = map(Path, sys.argv[1:4])
    sys.argv = sys.argv[3:]
    sys.path[0] = str(main.parent)
    watch(notes, base)
    runpy.run_path(str(main), run_name="__main__")
