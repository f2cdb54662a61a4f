"""The watch under which every server test runs: it sees what it should see, and lets the rest be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launch.environment import REPO

WATCHED = REPO / "tests" / "comfyui" / "watched.py"
OUTSIDE = "192.0.2.1"  # for documentation: nobody has it


def noted(tmp_path: Path, code: str, of_the_pack: bool = True) -> str:
    """What is noted of a script that runs `code`, as if it stood in a file of the pack."""
    base, notes, main = tmp_path / "base", tmp_path / "notes", tmp_path / "main.py"
    base.mkdir()
    place = str(REPO / "nodes" / "harmful.py") if of_the_pack else "elsewhere.py"
    main.write_text(
        f"import sys\nBASE, OUT = {str(base)!r}, {str(tmp_path / 'out')!r}\nexec(compile({code!r}, {place!r}, 'exec'))\nprint('done')\n"
    )
    run = subprocess.run([sys.executable, WATCHED, notes, base, main], capture_output=True, text=True)
    assert "done" in run.stdout, run.stderr
    return notes.read_text()


@pytest.mark.parametrize(
    "code",
    [
        f"import socket; s = socket.socket(); s.settimeout(1)\ntry: s.connect(('{OUTSIDE}', 80))\nexcept PermissionError: pass",
        "import socket\ntry: socket.getaddrinfo('example.com', 443)\nexcept PermissionError: pass",
        f"import urllib.request\ntry: urllib.request.urlopen('http://{OUTSIDE}/')\nexcept OSError: pass",
        f"import socket; s = socket.socket(type=socket.SOCK_DGRAM)\ntry: s.sendto(b'x', ('{OUTSIDE}', 53))\nexcept PermissionError: pass",
    ],
)
@pytest.mark.parametrize("of_the_pack", [True, False])
def test_the_network_is_refused_to_everybody_and_who_asked_is_noted(tmp_path: Path, code: str, of_the_pack: bool) -> None:
    (line,) = set(noted(tmp_path, code, of_the_pack).splitlines())
    assert ("nodes/harmful.py:2" in line) == of_the_pack or "nodes/harmful.py:1" in line


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "open(OUT, 'w').close()",
        "from pathlib import Path; Path(OUT).mkdir()",
        "import os; os.close(os.open(OUT, os.O_CREAT | os.O_WRONLY))",
    ],
)
def test_a_process_and_a_file_outside_are_noted_where_the_pack_makes_them(tmp_path: Path, code: str) -> None:
    assert "nodes/harmful.py" in noted(tmp_path, code)
    (tmp_path / "other").mkdir()
    assert noted(tmp_path / "other", code, of_the_pack=False) == ""


def test_the_server_s_own_work_is_not_noted(tmp_path: Path) -> None:
    code = "import socket\ns = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()).close()"
    assert (
        noted(tmp_path, code + "\nopen(BASE + '/a', 'w').close(); open('/dev/null', 'w').close(); open(sys.executable, 'rb').close()") == ""
    )
