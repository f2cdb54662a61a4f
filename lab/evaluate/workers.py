"""Tasks spread over workers that can be lost: a lost worker is replaced, and its task is done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol

LOSSES = 3
"""Workers that may be lost one after the other without a task done in between; beyond, something is wrong with all of them."""


class Worker(Protocol):
    """A process, here or elsewhere, that does one task at a time."""

    @property
    def lost(self) -> type[Exception]:
        """What its futures raise when it is no more."""
        ...

    def start(self) -> Future[Any]:
        """Done when the worker can take its first task."""
        ...

    def submit(self, task: Any) -> Future[Any]: ...

    def stop(self) -> None: ...


class Crew:
    """`count` workers, for any number of runs. Used as a context, which stops them."""

    def __init__(self, count: int, new_worker: Callable[[], Worker]) -> None:
        self.new_worker = new_worker
        self.idle: list[Worker] = []
        self.busy: dict[Future[Any], tuple[Worker, Any]] = {}  # without a task: it starts
        for _ in range(count):
            self._begin()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in (*self.idle, *(worker for worker, _ in self.busy.values())):
            worker.stop()

    def _begin(self) -> None:
        worker = self.new_worker()
        self.busy[worker.start()] = worker, None

    def spread(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """The results of tasks, none of which is None, as they come. A task is taken from the iterable when a worker is free for it.

        What a task itself raises is raised here. Raises RuntimeError when workers are lost one after the other.
        """
        coming, again, losses = iter(tasks), [], 0
        while True:
            while self.idle and (task := again.pop() if again else next(coming, None)) is not None:
                worker = self.idle.pop()
                self.busy[worker.submit(task)] = worker, task
            if self.idle and all(task is None for _, task in self.busy.values()):
                return
            done, _ = wait(self.busy, return_when=FIRST_COMPLETED)
            for future in done:
                worker, task = self.busy.pop(future)
                error = future.exception()
                if isinstance(error, worker.lost):
                    losses += 1
                    worker.stop()
                    if losses > LOSSES:
                        raise RuntimeError(f"{losses} workers were lost one after the other; the last: {error}") from error
                    self._begin()
                    again += [] if task is None else [task]
                    continue
                self.idle.append(worker)
                result = future.result()
                if task is not None:
                    losses = 0
                    yield result


class Bench(Protocol):
    """What a worker does its tasks by; made once, in its process."""

    def run(self, task: Any) -> Any: ...


_bench: Bench


def _start(new_bench: Callable[[], Bench]) -> None:
    global _bench
    _bench = new_bench()


def _ready() -> None: ...


def _run(task: Any) -> Any:
    return _bench.run(task)


class LocalWorker:
    """A process on this machine."""

    lost: type[Exception] = BrokenProcessPool

    def __init__(self, new_bench: Callable[[], Bench]) -> None:
        self.pool = ProcessPoolExecutor(1, get_context("spawn"), _start, (new_bench,))

    def start(self) -> Future[None]:
        return self.pool.submit(_ready)

    def submit(self, task: Any) -> Future[Any]:
        return self.pool.submit(_run, task)

    def stop(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
