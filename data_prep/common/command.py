"""The frame of a command: options, and an end with one line and an exit status, whatever happens."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rad_jax import errors
from rad_jax.errors import shown
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
    """`rad_jax.errors.run` for a command of this package; the exit status is 0, 2 after a failure, 130 after an interrupt.

    Args:
      program: name of the command.
      work: what the command does.
      continues: whether the same command continues after an interrupt, or begins again.
    """
    goes_on = "continues" if continues else "begins again"
    return errors.run(work, f"{program}: ", status=2, stopped=f"stopped; the same command {goes_on}")


def between(low: int, high: int) -> Callable[[str], int]:
    """Returns a parser of integers from ``low``, which is not negative, to ``high``."""

    def parse(text: str) -> int:
        # As text first: the digits of a number may be more than Python turns into one.
        fits = text.isdecimal() and len(text) <= len(str(high)) and low <= int(text) <= high
        if not fits:
            raise argparse.ArgumentTypeError(
                f"expected an integer from {low} to {high}, not {shown(text, 60)!r}"
            )
        return int(text)

    return parse


MANY = 2**31 - 1
natural, positive, seed = between(0, MANY), between(1, MANY), between(0, 2**32 - 1)


def size(text: str) -> tuple[int, int]:
    """Parses WIDTHxHEIGHT, in pixels, and returns (height, width)."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, such as 128x72, not {text!r}")
    return int(height), int(width)
