"""The parts of the sweep, and what each is.

A part is a module of this package with

    TITLE                   what the report calls it
    tasks(hours)            names of its tasks, each a few minutes; more of them, or longer ones, for more hours. Imports no ComfyUI
    run(task, hours, log)   one task, in a process of its own whose COMFYUI_PATH is set; cases go to `log`

and may have

    VERSIONS                of ComfyUI that its tasks need besides the newest; `version(task)` says which
    LIMIT                   seconds of the processor's time that a case may take
    SETUP                   the same of the time before, between and after its cases, where that is not 300 or LIMIT, the longer of both
    after(task)             the task of this part that must have ended before that one begins, or ""
"""

from __future__ import annotations

import importlib
from types import ModuleType

PARTS = ("upgrades", "fuzz", "damaged", "disks", "kills", "versions", "cancels", "soak")
"""In the order in which they run: what is quick and most likely to be broken first."""


def part(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")
