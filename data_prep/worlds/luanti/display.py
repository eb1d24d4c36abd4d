"""A virtual display as large as a frame, and the picture on it.

Xvfb keeps its screen in a file in the format XWD: a header of big-endian numbers, a table of colours, then the lines of the
picture with four bytes per pixel, blue first.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import UInt8

from rad_jax.errors import UserError

_HEADER_WORDS = 25
_SIZE, _WIDTH, _HEIGHT, _BITS, _LINE, _COLOURS = 0, 4, 5, 11, 12, 19  # words of the header
_COLOUR_BYTES = 12
_END_SECONDS = 30


class LuantiError(UserError, RuntimeError):
    """The engine or its display failed; the message says why in one line, and what to install if it is missing."""


def open_screen(path: Path, width: int, height: int) -> UInt8[np.ndarray, "H W 3"]:
    """The picture on a screen of this size. It changes when the screen does, so copy what is to be kept.

    Raises:
      LuantiError: the file is not a screen of this size with 32 bits per pixel.
    """
    header = np.fromfile(path, ">u4", _HEADER_WORDS).tolist()
    if len(header) < _HEADER_WORDS:
        raise LuantiError(f"{path}: {path.stat().st_size} bytes, expected a screen (XWD)")
    if (header[_WIDTH], header[_HEIGHT], header[_BITS]) != (width, height, 32):
        raise LuantiError(
            f"{path}: {header[_WIDTH]}x{header[_HEIGHT]} with {header[_BITS]} bits per pixel, "
            f"expected {width}x{height} with 32"
        )
    start = header[_SIZE] + _COLOUR_BYTES * header[_COLOURS]
    lines = np.memmap(path, np.uint8, "r", start, (height, header[_LINE]))
    return rearrange(lines[:, : 4 * width], "y (x c) -> y x c", c=4)[:, :, 2::-1]


@contextlib.contextmanager
def running(command: Sequence[str | Path], log: Path, **options: Any) -> Iterator[subprocess.Popen]:
    """Runs a program until the end of the context. Its messages go to a file, the options to `subprocess.Popen`."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def virtual_display(
    directory: Path, width: int, height: int
) -> Iterator[tuple[str, UInt8[np.ndarray, "H W 3"]]]:
    """Runs Xvfb, whose files are in a directory; gives the name of the display and the picture of `open_screen`.

    Raises:
      LuantiError: it did not start.
    """
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{width}x{height}x24"]
    command += ["-fbdir", str(directory), "-nolisten", "tcp"]
    log = directory / "xvfb.log"
    with open(reader) as answer, running(command, log, pass_fds=[writer]):
        os.close(writer)
        # Xvfb takes a free number, and writes it when the display is ready.
        number = answer.readline().strip()
        if not number:
            raise LuantiError(f"Xvfb did not start, see {log}")
        yield f":{number}", open_screen(directory / "Xvfb_screen0", width, height)
