"""Gives a reader damaged files, one after another, and watches errors, warnings, time and memory."""

import contextlib
import logging
import os
import random
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.mutations import mutate
from tests.fuzz.readers import READERS

SECONDS, GROWTH = 10.0, 512 * 2**20  # of processor and of memory, that an input may take
LONGEST = 1500  # characters of a message
_STATUS = Path("/proc/self/status")


class Outcome(NamedTuple):
    """``refused`` by an error that is allowed; ``failure`` in words, or empty."""

    number: int
    refused: bool
    seconds: float
    growth: int
    failure: str


def outcomes(name: str, numbers: range, seed: int, folder: Path) -> Iterator[Outcome]:
    """The outcome of each of some inputs of a reader; an input depends on reader, seed and number alone."""
    reader = READERS[name]
    files, read = reader.make(folder)
    whole = {path: path.read_bytes() for path in files}
    with _quiet():
        read()  # so that what is loaded or compiled once is not an input's
        for number in numbers:
            rng = random.Random(f"{seed} {name} {number}")
            path = rng.choice(files)
            path.write_bytes(mutate(whole[path], rng))
            yield _outcome(number, read, reader.allowed)
            path.write_bytes(whole[path])


def _outcome(number: int, read, allowed) -> Outcome:
    memory, begin, refused, failure = _memory("VmRSS"), time.process_time(), False, ""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    try:
        read()
    except allowed as error:
        refused, text = True, str(error)
        if len(text.splitlines()) > 2 or len(text) > LONGEST:
            failure = f"a message of {len(text.splitlines())} lines, {len(text)} characters: {text[:300]!r}"
    except Exception as error:
        failure = f"{type(error).__name__}: {str(error)[:300]!r}"
    seconds, growth = time.process_time() - begin, _memory("VmHWM") - memory
    if seconds > SECONDS:
        failure = failure or f"{seconds:.1f} s"
    if growth > GROWTH:
        failure = failure or f"{growth >> 20} MiB"
    return Outcome(number, refused, seconds, growth, failure)


def _memory(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Warnings are errors; nothing is logged."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            yield
    finally:
        logging.disable(before)
