"""The frame of a command: options, and an end with one line and an exit status, whatever happens."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rad_jax.errors import UserError
from rad_jax.files import local_path


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations of options, with local paths only, whose errors are one line with status 2."""

    def __init__(self, program: str, description: str | None):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(program, description=description, formatter_class=formatter, allow_abbrev=False)
        self.register("type", Path, local_path)  # options of type=Path

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def run(program: str, work: Callable[[], object], *, continues: bool = True) -> int:
    """Does the work of a command; returns its exit status: 0, 2 after a `UserError` or `OSError`, 130 after an interrupt.

    Args:
      program: name of the command.
      work: what the command does. Any other error passes through.
      continues: whether the same command continues after an interrupt, or begins again.
    """
    try:
        work()
    except (OSError, UserError) as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        goes_on = "continues" if continues else "begins again"
        print(f"{program}: stopped; the same command {goes_on}", file=sys.stderr)
        return 130
    return 0


def at_least(low: int) -> Callable[[str], int]:
    """Returns a parser of integers of at least ``low``, which is not negative."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"expected an integer >= {low}, not {text!r}")
        return int(text)

    return parse


natural, positive = at_least(0), at_least(1)


def size(text: str) -> tuple[int, int]:
    """Parses WIDTHxHEIGHT, in pixels, and returns (height, width)."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, such as 128x72, not {text!r}")
    return int(height), int(width)
