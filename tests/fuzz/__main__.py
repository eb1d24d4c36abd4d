"""Reads N damaged files with every reader of the program.

    python -m tests.fuzz --inputs 100000 [--reader NAME] [--seed N] [--only K]

Prints a line for every reader: inputs, how many were refused and taken, processor seconds of the slowest, growth of memory at
its peak, and the failures: an error that the reader does not document, a warning, more than 10 s or 512 MiB, a message of more
than two lines, or the end of the process. Readers that are slow get a share of the inputs. ``--only K`` gives a reader
input K again, and shows its traceback.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.fuzz.processes import report


def main() -> int:
    parser = argparse.ArgumentParser(
        "fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--reader", help="one of them; all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of an input")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from tests.fuzz.readers import READERS

    if options.reader not in (None, *READERS):
        parser.error(f"--reader {options.reader}: expected one of {', '.join(READERS)}")
    if options.only is not None and options.reader is None:
        parser.error("--only is the number of an input of one reader: name it with --reader")
    if options.only is not None:
        return show(options.reader, options.only, options.seed)
    names = [options.reader] if options.reader else [*READERS]
    print(
        f"{'reader':26} {'inputs':>7} {'refused':>7} {'taken':>7} {'slowest s':>9} {'MiB':>5} {'failures':>8}",
        flush=True,
    )
    failures = sum(
        report(name, max(1, int(options.inputs * READERS[name].share)), options.seed) for name in names
    )
    return int(failures > 0)


def show(name: str, number: int, seed: int) -> int:
    from tests.fuzz import engine

    signal.alarm(600)
    with tempfile.TemporaryDirectory() as folder:
        reader = engine.READERS[name]
        engine.READERS[name] = reader._replace(make=lambda at: keep(reader.make(at)))
        (outcome,) = engine.outcomes(name, range(number, number + 1), seed, Path(folder))
    print(outcome)
    return bool(outcome.failure)


def keep(made):
    """What was made, with a call that prints the traceback of what it raises."""
    import traceback

    files, read = made

    def shown():
        try:
            return read()
        except Exception:
            traceback.print_exc()
            raise

    return files, shown


if __name__ == "__main__":
    sys.exit(main())
