"""One task of a part, in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from .log import Log
from .parts import part

if __name__ == "__main__":
    name, task, path, hours = sys.argv[1:]
    part(name).run(task, float(hours), Log(Path(path)))
