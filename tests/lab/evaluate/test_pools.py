"""Work that survives its workers, on this machine and on a Ray cluster, and a file that survives its writers."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from fragile_worker import FragileWorker

from lab.evaluate.pools import LOSSES, LocalPool
from lab.evaluate.records import FILE, read

TESTS = Path(__file__).parents[2]
SQUARES = [(n, n * n) for n in range(6)]


def test_a_killed_process_s_tasks_are_done_again_and_no_result_comes_twice(tmp_path):
    for fatal in ("0", "3", "4"):
        (tmp_path / fatal).touch()
    with LocalPool(2, partial(FragileWorker, tmp_path)) as pool:
        assert sorted(pool.spread(range(6))) == SQUARES
    assert not any((tmp_path / fatal).exists() for fatal in ("0", "3", "4"))


def test_a_pool_works_for_one_run_after_another_and_loads_once_a_worker(tmp_path):
    with LocalPool(2, partial(FragileWorker, tmp_path)) as pool:
        assert [sorted(pool.spread(range(count))) for count in (3, 0, 1, 6)] == [SQUARES[:3], [], SQUARES[:1], SQUARES]
        assert 1 <= len(list(tmp_path.glob("worker-*"))) <= 2


def test_tasks_are_taken_only_when_a_worker_is_free(tmp_path):
    taken = []
    with LocalPool(1, partial(FragileWorker, tmp_path)) as pool:
        results = pool.spread(n for n in range(9) if taken.append(n) is None)
        assert next(results) == (0, 0) and taken == [0]


def test_workers_that_are_lost_time_and_again_end_the_run(tmp_path):
    (tmp_path / "1").write_text("always")
    with LocalPool(1, partial(FragileWorker, tmp_path)) as pool, pytest.raises(RuntimeError, match=f"lost {LOSSES + 1} times"):
        list(pool.spread([1]))


def test_a_process_that_is_killed_while_it_has_no_task_is_replaced(tmp_path):
    with LocalPool(1, partial(FragileWorker, tmp_path)) as pool:
        assert list(pool.spread([2])) == [(2, 4)]
        (process,) = pool.executor._processes.values()
        process.kill()
        process.join()
        assert sorted(pool.spread(range(3))) == SQUARES[:3]


def test_an_error_of_a_task_is_raised_and_the_pool_goes_on(tmp_path):
    with LocalPool(2, partial(FragileWorker, tmp_path)) as pool:
        with pytest.raises(ArithmeticError, match="-1 is negative"):
            list(pool.spread([-1]))
        assert list(pool.spread([2])) == [(2, 4)]


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
        with clusters.RayPool(count, resources, partial(FragileWorker, tmp_path)) as pool:
            assert sorted(pool.spread(range(6))) == SQUARES
            assert not (tmp_path / "3").exists()
            assert len(list(tmp_path.glob("worker-*"))) == count + 1
            with pytest.raises(ArithmeticError, match="-1 is negative"):
                list(pool.spread([-1]))
            (tmp_path / "5").write_text("always")
            with pytest.raises(RuntimeError, match="lost time and again"):
                list(pool.spread([5]))
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
