"""Workers on an existing Ray cluster: one a GPU, or where the cluster has none, one for so many CPU cores as a worker has threads.

Models and judges are read by each worker, once: the folders named on the command line, and this one, must be at the same place on every
machine, as on a shared disk. Pictures and records come back and are written here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .workers import Bench

try:
    import ray
    from ray.exceptions import RayActorError
except ImportError as error:
    raise SystemExit("--ray needs Ray: `pip install ray`, the cluster's version, in this environment.") from error

ROOT = Path(__file__).resolve().parents[2]


class RayWorker:
    """An actor of the cluster that is connected to, with a GPU of its own or so many CPU cores."""

    lost: type[Exception] = RayActorError

    def __init__(self, resources: dict[str, int], new_bench: Callable[[], Bench]) -> None:
        self.actor = ray.remote(_Actor).options(**resources).remote(new_bench)

    def start(self) -> Future[None]:
        return self.actor.ready.remote().future()

    def submit(self, task: Any) -> Future[Any]:
        return self.actor.run.remote(task).future()

    def stop(self) -> None:
        ray.kill(self.actor)


class _Actor:
    def __init__(self, new_bench: Callable[[], Bench]) -> None:
        self.bench = new_bench()

    def ready(self) -> None: ...

    def run(self, task: Any) -> Any:
        return self.bench.run(task)


def connect(address: str, threads: int) -> tuple[int, dict[str, int]]:
    """Join the cluster at an address; how many workers it has room for, and what each asks for."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    ray.init(address, runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False)
    room = ray.cluster_resources()
    if gpus := int(room.get("GPU", 0)):
        return gpus, {"num_gpus": 1}
    return max(1, int(room.get("CPU", 1)) // threads), {"num_cpus": threads}
