"""Runs a reader on its inputs in a process of its own, which is started anew where an input ends it."""

import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

ADDRESSES = 8 * 2**30  # bytes that the process of a reader may reserve beyond those that it has
PATIENCE = 120.0  # seconds without an outcome
IN_MEMORY = Path("/dev/shm")  # where an input costs no write to a disk, which would take most of the time


def report(name: str, inputs: int, seed: int) -> int:
    """Prints the line of a reader, and its first failures; returns their number."""
    refused = slowest = growth = 0
    failures: list[tuple[int, str]] = []
    begin, done = time.monotonic(), 0
    while done < inputs:  # anew where an input ended the process
        receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(
            target=work, args=(name, done, inputs, seed, sender)
        )
        process.start()
        sender.close()
        try:
            while receiver.poll(PATIENCE):
                for outcome in receiver.recv():
                    done = outcome.number + 1
                    refused, slowest = refused + outcome.refused, max(slowest, outcome.seconds)
                    growth = max(growth, outcome.growth)
                    failures += [(outcome.number, outcome.failure)] if outcome.failure else []
            process.kill()
            ended = f"no end after {PATIENCE:.0f} s"
        except EOFError:
            process.join()
            ended = f"the process ended with {process.exitcode}"
        if done < inputs:
            failures.append((done, ended))
            done += 1
        if process.exitcode == 1:
            break  # a fault of this program
    taken = inputs - refused - len(failures)
    print(f"{name:26} {inputs:7} {refused:7} {taken:7} {slowest:9.2f} {growth >> 20:5} {len(failures):8}   "
          f"{time.monotonic() - begin:.0f} s", flush=True)  # fmt: skip
    for number, words in failures[:10]:
        print(f"    --only {number}: {words}", flush=True)
    return len(failures)


def work(name: str, first: int, inputs: int, seed: int, sender) -> None:
    """Sends the outcomes of inputs, one by one: the process may end with any of them."""
    from tests.fuzz.engine import outcomes

    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
        for outcome in outcomes(name, range(first, inputs), seed, Path(folder)):
            if outcome.number == first:
                limit = (
                    int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + ADDRESSES
                )
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            sender.send([outcome])
    sender.close()
