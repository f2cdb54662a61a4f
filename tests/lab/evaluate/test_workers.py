"""Work that survives its workers, on this machine and on a Ray cluster, and a file that survives its writers."""

import json
import subprocess
import sys
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
from fragile_bench import FragileBench

from lab.evaluate.records import FILE, read
from lab.evaluate.workers import LOSSES, Crew, LocalWorker

TESTS = Path(__file__).parents[2]
SQUARES = [(n, n * n) for n in range(6)]


class Lost(Exception): ...


class Frail:
    """A worker, here and at once, that is lost on the tasks that are in `fatal`, each once."""

    lost = Lost
    alive: int = 0

    def __init__(self, fatal: list):
        self.fatal = fatal
        Frail.alive += 1

    def start(self) -> Future:
        return self.submit("start")

    def submit(self, task) -> Future:
        future = Future()
        if task in self.fatal:
            self.fatal.remove(task)
            future.set_exception(Lost(f"at {task}"))
        else:
            future.set_result(task)
        return future

    def stop(self) -> None:
        Frail.alive -= 1


@pytest.fixture(autouse=True)
def none_is_left():
    Frail.alive = 0
    yield
    assert Frail.alive == 0


def test_a_lost_worker_s_task_is_done_again_and_no_result_comes_twice():
    with Crew(2, partial(Frail, [2, 4, "start"])) as crew:
        assert sorted(crew.spread(range(6))) == list(range(6))
        assert Frail.alive == 2


def test_a_crew_works_for_one_run_after_another():
    with Crew(2, partial(Frail, [])) as crew:
        assert [sorted(crew.spread(range(count))) for count in (3, 0, 1)] == [[0, 1, 2], [], [0]]


def test_tasks_are_taken_only_when_a_worker_is_free():
    taken = []
    with Crew(1, partial(Frail, [])) as crew:
        results = crew.spread(n for n in range(9) if taken.append(n) is None)
        assert next(results) == 0 and taken == [0]


def test_workers_that_are_lost_one_after_the_other_end_the_run():
    with pytest.raises(RuntimeError, match=f"{LOSSES + 1} workers were lost"), Crew(1, partial(Frail, ["start"] * 9)) as crew:
        list(crew.spread(range(3)))


def test_a_killed_process_is_replaced_and_an_error_of_a_task_is_raised(tmp_path):
    (tmp_path / "3").touch()
    with Crew(2, partial(LocalWorker, partial(FragileBench, tmp_path))) as crew:
        assert sorted(crew.spread(range(6))) == SQUARES
        assert not (tmp_path / "3").exists()
        with pytest.raises(ArithmeticError, match="-1 is negative"):
            list(crew.spread([-1]))


def test_a_cluster_that_loses_a_worker_does_all_samples_once(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is optional: `pip install ray` to test --ray")
    from ray.cluster_utils import Cluster

    from lab.evaluate import cluster as clusters

    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    (tmp_path / "3").touch()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80_000_000})
    try:
        count, resources = clusters.connect(cluster.address, threads=1)
        assert (count, resources) == (2, {"num_cpus": 1})
        with Crew(count, partial(clusters.RayWorker, resources, partial(FragileBench, tmp_path))) as crew:
            assert sorted(crew.spread(range(6))) == SQUARES
        assert not (tmp_path / "3").exists()
    finally:
        ray.shutdown()
        cluster.shutdown()


WRITER = """
import sys
from pathlib import Path
from lab.evaluate.records import append
for index in range(50):
    append(Path(sys.argv[1]), [{"row": sys.argv[2], "index": index, "files": {}, "filler": "x" * 5000}])
"""


def test_two_writers_at_once_lose_and_mix_nothing(tmp_path):
    started = [subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, name], cwd=TESTS.parent) for name in ("one", "two")]
    assert [process.wait() for process in started] == [0, 0]
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert len(lines) == 100 == len(read(tmp_path))
    for name in ("one", "two"):
        assert [line["index"] for line in lines if line["row"] == name] == list(range(50))
