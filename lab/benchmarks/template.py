"""A template as a whole, node by node, in two versions of the pack in turns: CPU seconds, and memory beyond what was there before.

    git worktree add --detach /tmp/old d93432b
    COMFYUI_PATH=... python -m lab.benchmarks.template --old /tmp/old --steps 25 50

Each run is a ComfyUI of its own in which nothing but the template runs, through ComfyUI's own executor and on one thread; versions take
turns, and ratios are those of one round each. The old version runs its own template at 50 steps, ours runs today's at each of --steps, on
the old version's UNets, which makes them comparable, and once on its own. CPU seconds are the process's; memory is resident (Linux).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
OLD_TEMPLATE, TEMPLATE = "images_that_sound_embedded.json", "01 Picture that sounds.json"
OLD_STEPS = 50
SIDES = ("embedded-image", "embedded-audio")
SAMPLER = "MultimodalKSampler"


# One run ----------------------------------------------------------------------------------------------------------------------------


class Watch:
    """Stands where ComfyUI's server would, and notes what each node took when the next one begins."""

    client_id, last_node_id, last_prompt_id, sockets_metadata = "benchmark", None, None, {}

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[float, float]] = {}
        self._running: tuple[str, float, float] | None = None

    def send_sync(self, event: str, data: Any, client: Any = None) -> None:
        if event == "executing" and data["node"]:
            self.next(data["node"])
        if event in ("execution_error", "execution_interrupted"):
            raise SystemExit(f"{data['node_type']}: {data.get('exception_message', 'interrupted')}")

    def next(self, node: str | None) -> None:
        if self._running:
            name, cpu, resident = self._running
            self.nodes[name] = time.process_time() - cpu, (_kilobytes("VmHWM") - resident) / 1024
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
        self._running = (node, time.process_time(), _kilobytes("VmRSS")) if node else None


def _kilobytes(key: str) -> int:
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)).split()[1])


def run(pack: Path, template: Path, steps: int) -> dict[str, tuple[float, float]]:
    """CPU seconds and MiB by node of a pack's template, in this process."""
    from launch.workflow import load, node_of, set_value, to_prompt
    from tools.comfyui import import_comfyui

    import_comfyui(os.environ["COMFYUI_PATH"], ["--cpu", "--use-pytorch-cross-attention", "--disable-api-nodes"])
    nodes, execution, folder_paths = (importlib.import_module(name) for name in ("nodes", "execution", "folder_paths"))
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        for name in ("output", "temp", "input"):
            (base / name).mkdir()
            getattr(folder_paths, f"set_{name}_directory")(str(base / name))
        (base / "images-that-sound").symlink_to(pack)
        asyncio.run(nodes.init_builtin_extra_nodes())
        asyncio.run(nodes.load_custom_node(str(base / "images-that-sound")))
        info = {
            name: {
                "input": node.INPUT_TYPES(),
                "input_order": {group: list(inputs) for group, inputs in node.INPUT_TYPES().items()},
                "display_name": name,
            }
            for name, node in nodes.NODE_CLASS_MAPPINGS.items()
        }
        prompt = to_prompt(load(template), info)
        set_value(prompt, node_of(prompt, SAMPLER), "steps", steps)
        outputs = [node for node, given in prompt.items() if getattr(nodes.NODE_CLASS_MAPPINGS[given["class_type"]], "OUTPUT_NODE", False)]
        watch = Watch()
        execution.PromptExecutor(watch, cache_args={"lru": 0, "ram": 0, "ram_inactive": 0}).execute(
            prompt, "benchmark", {"client_id": "benchmark"}, outputs
        )
        watch.next(None)
        taken: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        for node, (cpu, memory) in watch.nodes.items():
            name = prompt[node]["class_type"]
            taken[name] = taken[name][0] + cpu, max(taken[name][1], memory)
        return dict(taken)


# All of them ------------------------------------------------------------------------------------------------------------------------


def with_unets_of(other: Path, folder: Path) -> Path:
    """A copy of this pack with the UNets of another one; links would be followed to the models that lie beside the code."""
    pack = shutil.copytree(REPO, folder / "pack", ignore=shutil.ignore_patterns(".git", "tests", "lab", "docs", "output", "data"))
    for side in SIDES:
        shutil.rmtree(pack / "models" / side / "unet")
        shutil.copytree(other / "models" / side / "unet", pack / "models" / side / "unet")
    return pack


def child(pack: Path, template: Path, steps: int) -> dict[str, list[float]]:
    command = [sys.executable, "-m", "lab.benchmarks.template", "--child", str(pack), str(template), "--steps", str(steps)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="a checkout of the old version")
    parser.add_argument("--steps", type=int, nargs="+", default=[25, OLD_STEPS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", type=Path, nargs=2, metavar=("PACK", "TEMPLATE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(run(args.child[0].resolve(), args.child[1], args.steps[0])))
        return
    old = args.old.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        ours = with_unets_of(old, Path(scratch))
        ways = {f"old, {OLD_STEPS} steps": (old, old / "workflows" / OLD_TEMPLATE, OLD_STEPS)}
        ways |= {f"new on the old UNets, {steps} steps": (ours, REPO / "workflows" / TEMPLATE, steps) for steps in args.steps}
        ways |= {f"new, {args.steps[0]} steps": (REPO, REPO / "workflows" / TEMPLATE, args.steps[0])}
        rounds = [{name: child(*way) for name, way in ways.items()} for _ in range(args.rounds)]
    first = next(iter(ways))
    print(f"CPU seconds on one thread, MiB beyond what was there: median (range) of {args.rounds} rounds")
    for name in ways:
        total = [sum(cpu for cpu, _ in taken[name].values()) for taken in rounds]
        ratios = [sum(cpu for cpu, _ in taken[first].values()) / whole for taken, whole in zip(rounds, total, strict=True)]
        print(f"\n{name}: {spread(total)} s in all; the old one's over it {spread(ratios, 2)}")
        for node in rounds[0][name]:
            cpu, memory = ([taken[name][node][i] for taken in rounds] for i in (0, 1))
            old_cpu = [taken[first][node][0] for taken in rounds] if node in rounds[0][first] else []
            over = f"   {spread([a / b for a, b in zip(old_cpu, cpu, strict=True)], 2)}" if old_cpu and min(cpu) > 0.05 else ""
            print(f"  {node:28}{spread(cpu, 2):24}{spread(memory, 0):24}{over}")


if __name__ == "__main__":
    main()
