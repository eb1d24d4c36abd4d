"""Results come in order, errors as they are, and no process outlives its use."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from data_prep.common.pool import Pool
from data_prep.recordings.recording import BadRecording
from rad_jax.data import DataError

OWNER = """
import sys
from data_prep.common.pool import Pool
from tests.data_prep.common.test_pool import interrupted_and_asleep
if __name__ == "__main__":
    with Pool(2) as pool:
        list(pool.map(interrupted_and_asleep, range(2)))
"""


def slow_square(number: int) -> tuple[int, int]:
    time.sleep(0.02 * (number % 3 == 0))  # the later ones are ready before
    if number == 17:
        raise BadRecording("seventeen.mp4", "damaged", "a prime number")
    return number * number, os.getpid()


@pytest.fixture(scope="module")
def pool():
    with Pool(2) as opened:
        yield opened


def test_results_are_in_order_and_from_several_processes(pool):
    results = list(pool.map(slow_square, range(12)))
    assert [square for square, _ in results] == [n * n for n in range(12)]
    assert os.getpid() not in {process for _, process in results}
    assert list(pool.map(slow_square, [])) == []


def test_what_a_task_raises_is_raised_at_its_place(pool):
    results = pool.map(slow_square, range(15, 20))
    assert [next(results)[0], next(results)[0]] == [225, 256]
    with pytest.raises(BadRecording) as error:
        next(results)
    assert str(error.value) == "seventeen.mp4: damaged, expected a prime number"
    assert next(pool.map(slow_square, [4]))[0] == 16, "the pool is of further use"


def leave_a_trace(directory: Path, number: int) -> int:
    (directory / str(number)).touch()
    return number


def test_the_next_range_is_begun_before_it_is_asked_for_but_not_everything(pool, tmp_path):
    results = pool.lookahead(partial(leave_a_trace, tmp_path), range(9))
    assert list(results(range(1))) == [0]
    deadline = time.monotonic() + 20
    while len(list(tmp_path.iterdir())) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3"]
    assert [*results(range(1, 4)), *results(range(6, 9))] == [1, 2, 3, 6, 7, 8]


def test_one_worker_is_this_process():
    with Pool(1) as pool:
        assert list(pool.map(slow_square, [3])) == [(9, os.getpid())]
        assert [square for square, _ in pool.lookahead(slow_square, [1, 2, 3])(range(1, 3))] == [4, 9]


def interrupt_myself(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return number


def test_an_interrupt_is_not_for_the_processes(pool):
    assert list(pool.map(interrupt_myself, range(4))) == [0, 1, 2, 3]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "it is for this one"


def die(number: int) -> int:
    os._exit(3)


def test_a_process_that_dies_is_said_and_not_waited_for():
    with Pool(2) as pool:
        for task in (die, slow_square):
            with pytest.raises(DataError, match="--workers"):
                list(pool.map(task, range(3)))


def asleep_but_first(number: int) -> int:
    time.sleep(60 * number)
    return number


def test_leaving_with_an_error_ends_what_still_runs():
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Pool(2) as pool:
        assert next(pool.map(asleep_but_first, range(4))) == 0
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 30


def interrupted_and_asleep(number: int) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    print(os.getpid(), flush=True)
    time.sleep(60)


def test_processes_end_with_an_owner_that_is_killed(tmp_path, root):
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    environment = os.environ | {"PYTHONPATH": str(root)}
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, env=environment, text=True
    ) as owner:
        pids = {int(owner.stdout.readline()) for _ in range(2)}
        owner.kill()
        assert owner.stdout.read() == "", "until its processes, too, have closed it"
    assert len(pids - {owner.pid}) == 2
    assert time.monotonic() - begun < 50
