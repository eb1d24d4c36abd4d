"""How many processes MuJoCo gets, and with how many threads each of them draws."""

import os

from data_prep.worlds.memory_maze import workers
from data_prep.worlds.memory_maze.workers import default_count, limit_threads


def test_a_process_draws_with_one_thread_unless_told_otherwise(monkeypatch):
    for told in (None, "3"):
        monkeypatch.setenv("LP_NUM_THREADS", told or "")
        if told is None:
            monkeypatch.delenv("LP_NUM_THREADS")
        limit_threads()
        assert os.environ["LP_NUM_THREADS"] == (told or "1")


def test_memory_limits_the_default(monkeypatch):
    cores = len(os.sched_getaffinity(0))
    for gigabytes, count in ((0.1, 1), (0.8, 1), (1.8, min(2, cores)), (1e6, cores)):
        monkeypatch.setattr(workers, "_available_bytes", lambda n=gigabytes: n * 1e9)
        assert default_count() == count
    monkeypatch.undo()
    assert 1e7 < workers._available_bytes() < 1e14
