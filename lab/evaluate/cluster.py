"""Workers on an existing Ray cluster: one a GPU, or where the cluster has none, one for so many CPU cores as a worker has threads.

Models and judges are read by each worker, once: the folders named on the command line, and this one, must be under the same path on every
machine, as on a shared disk. Pictures and records come back and are written here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .pools import LOSSES, Runner

try:
    import ray
    from ray.exceptions import RayActorError
    from ray.util import ActorPool
except ImportError as error:
    raise SystemExit("--ray needs Ray: `pip install ray`, the cluster's version, in this environment.") from error

ROOT = Path(__file__).resolve().parents[2]
RESTARTS = 20
"""Of one worker: machines of a large cluster come and go, but a worker that is lost on every start should end the run."""


class RayPool:
    """`count` actors of the cluster that is connected to. Ray itself starts a lost one again, and its task."""

    def __init__(self, count: int, resources: dict[str, int], new_runner: Callable[[], Runner]) -> None:
        actor = ray.remote(_Actor).options(**resources, max_restarts=RESTARTS, max_task_retries=LOSSES)
        self.actors = [actor.remote(new_runner) for _ in range(count)]

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self.actors:
            ray.kill(actor)

    def spread(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """As `Pool.spread`."""
        pool = ActorPool(self.actors)
        try:
            for task in tasks:
                if not pool.has_free():
                    yield pool.get_next_unordered()
                pool.submit(lambda actor, task: actor.run.remote(task), task)
            while pool.has_next():
                yield pool.get_next_unordered()
        except RayActorError as error:
            raise RuntimeError(f"a worker was lost time and again: {error}") from error


class _Actor:
    def __init__(self, new_runner: Callable[[], Runner]) -> None:
        self.runner = new_runner()

    def run(self, task: Any) -> Any:
        return self.runner.run(task)


def connect(address: str, threads: int) -> tuple[int, dict[str, int]]:
    """Join the cluster at an address; how many workers it has room for, and what each asks for."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    ray.init(address, runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False)
    room = ray.cluster_resources()
    if gpus := int(room.get("GPU", 0)):
        return gpus, {"num_gpus": 1}
    return max(1, int(room.get("CPU", 1)) // threads), {"num_cpus": threads}
