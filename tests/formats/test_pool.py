"""Results come in order, errors as they are, and no process outlives its use."""

import os
import signal
import time

import pytest

from data_prep.pool import Pool
from rad_jax.data import DataError


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
