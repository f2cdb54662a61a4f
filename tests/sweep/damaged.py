"""Part: files that are damaged in each way, in every layout that a loader reads: one good error, nothing run, no memory taken."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from .log import Log
from .oracle import RAW, RESULT, SILENT, Outcome, judge

TITLE = "Damaged files"
LAYOUTS = ("diffusers", "checkpoint", "vocoder", "color", "deepfloyd", "picture_scorer", "sound_scorer")
WITH_PICKLES = (
    *("vocoder-pt", "diffusers-bin", "color-bin", "deepfloyd-bin", "picture_scorer-bin", "sound_scorer-bin"),
    *("checkpoint-ckpt", "unet-pt", "vae-pt", "text-bin", "adapter-pt", "sds-pt"),
)
MEMORY = 2**19
"""KiB that reading a model with a damaged file may take beyond what the whole one takes: half a GiB."""
EVERY = {"deepfloyd": 3}
"""A layout that takes a second to load: each key is set to one in so many of the absurd values, another one for the next key."""


def tasks(hours: float) -> list[str]:
    return [*LAYOUTS, *WITH_PICKLES]


def run(task: str, hours: float, log: Log) -> None:
    from .comfyui import start

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        pack = start(base)
        import folder_paths
        import torch

        from . import layouts
        from .damages import damages, must_be_refused
        from .drawing import node_classes
        from .models import Models

        models, classes = Models(pack, base), node_classes(pack)
        names = {name: [widget.id for widget in node.define_schema().inputs] for name, node in classes.items()}
        layout = layouts.write(task, models)
        harm, outputs = base / "harm", classes[layout.node].define_schema().outputs

        def load() -> Any:
            folder_paths.filename_list_cache.clear()
            with torch.inference_mode():
                return classes[layout.node].PREPARE_CLASS_CLONE(None).execute(**layout.given).args

        before = forget_peak()
        if (whole := judge(names, layout.node, outputs, load, layout.work)).kind != RESULT:
            raise RuntimeError(f"the whole folder does not load: {whole.text}")
        usual = status("VmHWM") - before
        files = layout.files(task)
        if not files:
            raise RuntimeError("there is no file to damage")
        for number, file in enumerate(files):
            saved, name = base / "whole", file.relative_to(layout.root)
            shutil.copy(file, saved)
            for damage in damages(file, harm, files[number + 1 :] + files[:number], EVERY.get(task, 1)):
                with log.case(task, f"{name} {damage.name}") as outcomes:
                    damage.do()
                    before = forget_peak()
                    outcome = judge(names, layout.node, outputs, load, layout.work)
                    taken = status("VmHWM") - before - usual
                    if harm.exists():
                        outcome = Outcome(SILENT, "its code was run")
                        harm.unlink()
                    elif outcome.kind == RESULT and must_be_refused(f"{task}/{name}", damage):
                        outcome = Outcome(SILENT, "it was taken for whole")
                    elif taken > MEMORY:
                        outcome = Outcome(RAW, f"took {taken / 2**20:.1f} GiB of memory more than the whole model")
                    outcomes.append(outcome)
                shutil.copy(saved, file)


def status(key: str) -> int:
    """A number of this process's status, in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def forget_peak() -> int:
    """What this process holds, in KiB; the most that it has held is the same from now on (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status("VmHWM")
