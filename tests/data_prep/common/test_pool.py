"""Results come in order, errors as they are, and no process outlives its use."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from data_prep.common.pool import Pool, Processes, end_with
from rad_jax.data import DataError

OWNER = """
import multiprocessing
from data_prep.common.pool import interrupts_not_for_children
from tests.formats.test_pool import interrupted_and_asleep
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=interrupted_and_asleep)
    with interrupts_not_for_children():
        child.start()
    child.join()
"""


def slow_square(number: int) -> tuple[int, int]:
    time.sleep(0.02 * (number % 3))
    if number == 17:
        raise ValueError("seventeen")
    return number * number, os.getpid()


def die(number: int) -> int:
    os._exit(3)


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
    with pytest.raises(ValueError, match="seventeen"):
        next(results)
    assert next(pool.map(slow_square, [4]))[0] == 16, "the pool is of further use"


def test_one_worker_is_this_process():
    with Pool(1) as pool:
        assert list(pool.map(slow_square, [3])) == [(9, os.getpid())]


def interrupt_myself(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return number


def test_an_interrupt_is_not_for_the_processes(pool):
    assert list(pool.map(interrupt_myself, range(4))) == [0, 1, 2, 3]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "it is for this one"


def test_a_process_that_dies_is_said():
    with Pool(2) as pool, pytest.raises(DataError, match="a worker process died"):
        list(pool.map(die, range(3)))


def interrupted_and_asleep() -> None:
    end_with(multiprocessing.parent_process().sentinel)
    os.kill(os.getpid(), signal.SIGINT)
    print("asleep", flush=True)
    time.sleep(60)


def test_a_process_without_a_pool_ends_with_its_parent_and_not_by_an_interrupt(tmp_path, root):
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    environment = os.environ | {"PYTHONPATH": str(root)}
    owner = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment, text=True)
    with owner.stdout:
        said = owner.stdout.readline()
        owner.kill()
        owner.wait()
        begun = time.monotonic()
        assert said == "asleep\n"
        assert owner.stdout.read() == "", "until its child, too, has closed it"
    assert time.monotonic() - begun < 20


def say_where() -> None:
    os.environ["PREPARED_BY"] = str(os.getpid())


def prepared(item: int) -> bool:
    return os.environ.get("PREPARED_BY") == str(os.getpid())


def test_processes_prepare_and_die_as_their_user_says():
    with Processes(1, KeyError("gone"), say_where) as processes:
        assert processes.result(processes.submit(prepared, 0))
        with pytest.raises(KeyError, match="gone"):
            processes.result(processes.submit(die, 0))
        with pytest.raises(KeyError, match="gone"):
            processes.submit(prepared, 0)
