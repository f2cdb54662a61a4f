"""Tasks spread over worker processes that can be lost: their tasks are done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol

LOSSES = 3
"""Times that workers may be lost without a task done in between; beyond, something is wrong with all of them."""


class Runner(Protocol):
    """What a process does its tasks by; made once in each, and so are the models that it loads."""

    def run(self, task: Any) -> Any: ...


class Pool(Protocol):
    """Workers for any number of runs. Used as a context, which stops them."""

    def __enter__(self) -> Pool: ...

    def __exit__(self, *_: object) -> None: ...

    def spread(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """The results of tasks, none of which is None, as they come. A task is taken from the iterable when a worker is free for it.

        What a task itself raises is raised here. Raises RuntimeError when workers are lost time and again.
        """
        ...


_runner: Runner


def _start(new_runner: Callable[[], Runner]) -> None:
    global _runner
    _runner = new_runner()


def _run(task: Any) -> Any:
    return _runner.run(task)


class LocalPool:
    """`count` processes on this machine.

    A lost process breaks the standard library's executor for good, so what stays to be done here is to make another and to hand out again
    the tasks that had no result.
    """

    def __init__(self, count: int, new_runner: Callable[[], Runner]) -> None:
        self.count, self.new_runner = count, new_runner
        self.executor = self._new_executor()

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)

    def _new_executor(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.count, get_context("spawn"), _start, (self.new_runner,))

    def spread(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """As `Pool.spread`."""
        coming, again, losses = iter(tasks), [], 0
        running: dict[Future[Any], Any] = {}
        while True:
            error = None
            while error is None and len(running) < self.count and (task := again.pop() if again else next(coming, None)) is not None:
                try:
                    running[self.executor.submit(_run, task)] = task
                except BrokenProcessPool as lost:  # an idle process was lost
                    again.append(task)
                    error = lost
            if not running and error is None:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if error or any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                done, _ = wait(running, return_when=ALL_COMPLETED)  # none of the others is left running
            for future in done:
                task = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    again.append(task)
                    error = future.exception()
                    continue
                result = future.result()
                losses = 0
                yield result
            if error is not None:
                losses += 1
                if losses > LOSSES:
                    raise RuntimeError(f"workers were lost {losses} times, one after the other; the last: {error}") from error
                self.executor.shutdown(wait=False)
                self.executor = self._new_executor()
