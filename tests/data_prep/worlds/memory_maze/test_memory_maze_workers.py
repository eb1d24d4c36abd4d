"""Processes: order, the number of them, and their end."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data_prep.worlds.memory_maze import workers
from data_prep.worlds.memory_maze.package import MemoryMazeError
from data_prep.worlds.memory_maze.workers import Workers, default_count

WRITER = """
import sys, time
from data_prep.worlds.memory_maze.workers import Workers
from tests.data_prep.worlds.memory_maze.test_memory_maze_workers import never
if __name__ == "__main__":
    with Workers(never, 4, 2) as pool:
        next(pool.episodes(range(4)))
"""


def squares(index: int) -> dict:
    time.sleep(0.05 * (index % 3 == 0))  # the later ones are ready before
    return {"frames": np.full(3, index**2), "process": os.getpid()}


def die(index: int) -> dict:
    if index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def refuse(index: int) -> dict:
    raise MemoryMazeError(f"nothing to be had for {index}")


def never(index: int) -> dict:
    print(os.getpid(), flush=True)
    time.sleep(60)
    return {}


@pytest.mark.parametrize("count", [1, 3])
def test_episodes_come_in_order_over_the_edges_of_shards(count):
    with Workers(squares, 11, count) as pool:
        episodes = [
            episode for shard in (range(4), range(4, 8), range(9, 11)) for episode in pool.episodes(shard)
        ]
        assert set(pool._coming) <= {8}, "what was handed out is kept"
    assert [episode["frames"][0] for episode in episodes] == [i**2 for i in (*range(8), 9, 10)]
    made_by = {episode["process"] for episode in episodes}
    assert 1 <= len(made_by) <= count and os.getpid() not in made_by


def leave_a_trace(directory: Path, index: int) -> dict:
    (directory / str(index)).touch()
    return {}


def test_the_next_shard_is_begun_before_it_is_asked_for_but_not_the_whole_split(tmp_path):
    with Workers(partial(leave_a_trace, tmp_path), 9, 2) as pool:
        list(pool.episodes(range(1)))
        deadline = time.monotonic() + 20
        while len(list(tmp_path.iterdir())) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3"]


def threads(index: int) -> dict:
    return {"threads": os.environ.get("LP_NUM_THREADS")}


def test_a_process_draws_with_one_thread_unless_told_otherwise(monkeypatch):
    for told in (None, "3"):
        monkeypatch.delenv("LP_NUM_THREADS", raising=False)
        if told:
            monkeypatch.setenv("LP_NUM_THREADS", told)
        with Workers(threads, 1, 1) as pool:
            assert next(pool.episodes(range(1))) == {"threads": told or "1"}


def test_errors_of_a_process_arrive():
    with pytest.raises(MemoryMazeError, match="nothing to be had for 0"), Workers(refuse, 2, 1) as pool:
        next(pool.episodes(range(2)))


def test_a_process_that_dies_is_an_error_and_not_a_wait():
    with (
        pytest.raises(MemoryMazeError, match=r"a worker process died.*use fewer --workers"),
        Workers(die, 9, 2) as pool,
    ):
        list(pool.episodes(range(9)))


def test_leaving_ends_what_still_runs():
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Workers(never, 2, 1) as pool:
        pool.submit(never, 0)
        time.sleep(1)
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 20


def test_workers_end_with_a_writer_that_is_killed(tmp_path, root):
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    environment = os.environ | {"PYTHONPATH": str(root)}
    writer = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment, text=True)
    with writer.stdout:
        pids = [int(writer.stdout.readline()) for _ in range(2)]
    assert all(map(running, pids))
    writer.kill()
    writer.wait()
    deadline = time.monotonic() + 20
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in pids if running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "workers outlived their writer"


def running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "Z (zombie)" not in status.read_text()


def test_memory_limits_the_default(monkeypatch):
    cores = len(os.sched_getaffinity(0))
    for gigabytes, count in ((0.1, 1), (0.8, 1), (1.8, min(2, cores)), (1e6, cores)):
        monkeypatch.setattr(workers, "_available_bytes", lambda n=gigabytes: n * 1e9)
        assert default_count() == count
    monkeypatch.undo()
    assert 1e7 < workers._available_bytes() < 1e14
