"""A virtual display as large as a frame, and the picture on it.

Xvfb keeps its screen in a file in the format XWD: a header of big-endian numbers, a table of colours, then the lines of the
picture with four bytes per pixel, blue first.
"""

import os
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from rad_jax.errors import UserError

_HEADER_WORDS = 25
_SIZE, _DEPTH, _WIDTH, _HEIGHT, _BITS, _LINE, _COLOURS = 0, 3, 4, 5, 11, 12, 19  # words of the header
_COLOUR_BYTES = 12
_START_SECONDS = 20


class LuantiError(UserError, RuntimeError):
    """The engine or its display failed; the message says why in one line, and what to install if it is missing."""


class Picture:
    """The screen of a display.

    Raises:
      LuantiError: the file is not a screen of this size with 32 bits per pixel.
    """

    def __init__(self, path: Path, width: int, height: int):
        data = path.read_bytes()[: 4 * _HEADER_WORDS]
        if len(data) < 4 * _HEADER_WORDS:
            raise LuantiError(f"{path}: {len(data)} bytes, expected a screen (XWD)")
        header = struct.unpack(f">{_HEADER_WORDS}I", data)
        if (header[_WIDTH], header[_HEIGHT], header[_BITS]) != (width, height, 32):
            raise LuantiError(
                f"{path}: {header[_WIDTH]}x{header[_HEIGHT]} with {header[_BITS]} bits per pixel, "
                f"expected {width}x{height} with 32"
            )
        self._width, self._line = width, header[_LINE]
        start = header[_SIZE] + _COLOUR_BYTES * header[_COLOURS]
        self._lines = np.memmap(path, np.uint8, "r", start, (height, self._line))

    def read(self) -> UInt8[np.ndarray, "H W 3"]:
        """What is on the screen now."""
        pixels = self._lines[:, : 4 * self._width].reshape(len(self._lines), self._width, 4)
        return np.ascontiguousarray(pixels[:, :, 2::-1])


class Display:
    """A virtual display of Xvfb; closing it ends it.

    Raises:
      LuantiError: it did not start.
    """

    def __init__(self, directory: Path, width: int, height: int):
        reader, writer = os.pipe()
        command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{width}x{height}x24"]
        command += ["-fbdir", str(directory), "-nolisten", "tcp"]
        with open(directory / "xvfb.log", "wb") as log:
            self._process = subprocess.Popen(command, pass_fds=[writer], stdout=log, stderr=log)
        os.close(writer)
        with open(reader) as answer:
            # Xvfb takes a free number, and writes it when the display is ready.
            number = answer.readline().strip()
        if not number:
            self.close()
            raise LuantiError(f"Xvfb did not start, see {directory / 'xvfb.log'}")
        self.name = f":{number}"
        self.picture = self._picture(directory / "Xvfb_screen0", width, height)

    def _picture(self, path: Path, width: int, height: int) -> Picture:
        deadline = time.monotonic() + _START_SECONDS
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            return Picture(path, width, height)
        except (OSError, LuantiError):
            self.close()
            raise

    def close(self) -> None:
        """End the display."""
        self._process.terminate()
        self._process.wait()


def missing(program: str) -> str:
    """What to say where a program is not installed."""
    return f"{program} is not installed; on Debian: apt-get install minetest xvfb libgl1-mesa-dri"
