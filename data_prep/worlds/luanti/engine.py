"""The engine as a process: one action in, one pose and the frame that shows it out."""

import errno
import os
import select
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from data_prep.worlds.luanti.display import Display, LuantiError, missing
from data_prep.worlds.luanti.world import GAME, make_home, settings, world
from data_prep.worlds.voxel.motion import Action

PROGRAMS = ("luanti", "minetest")  # the newer name first
_START_SECONDS, _ANSWER_SECONDS, _END_SECONDS = 90, 120, 30


class Seen(NamedTuple):
    """What one action led to.

    frame: what is on the screen.
    pose:  x, y, z of the feet in blocks and yaw in degrees, in Minecraft's directions.
    """

    frame: UInt8[np.ndarray, "H W 3"]
    pose: tuple[float, float, float, float]


class Engine:
    """A running engine with a world of its own; use it as a context manager.

    Args:
      home: a directory for its files, which no other engine may use.
      map_seed: the seed of the landscape.
      width, height: of the frames in pixels.

    Raises:
      LuantiError: it is not installed, or did not start.
    """

    def __init__(self, home: Path, map_seed: int, width: int, height: int):
        program = expect_installed()
        home = home.absolute()
        make_home(home, map_seed, width, height)
        pipes = home / "actions", home / "poses"
        for pipe in pipes:
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe)
        self._log = home / "engine.log"
        self._display = Display(home, width, height)
        self._process, self._actions, self._answers = None, None, None
        try:
            self._start(program, home, *pipes)
        except BaseException:
            self.close()
            raise

    def reset(self, seed: int) -> Seen:
        """Go to a place and heading drawn from a seed below 2**31; takes some seconds, until the terrain has loaded."""
        self._count = 0
        return self._ask(f"reset {seed}")

    def step(self, action: Action) -> Seen:
        """Take one action."""
        self._count += 1
        return self._ask(" ".join(str(int(part)) for part in action))

    def _start(self, program: str, home: Path, actions: Path, poses: Path) -> None:
        environment = os.environ | {
            "HOME": str(home),
            "DISPLAY": self._display.name,
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "RAD_IN": str(actions),
            "RAD_OUT": str(poses),
        }
        command = [program, "--config", settings(home), "--go", "--world", world(home), "--gameid", GAME]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [*command, "--name", "agent", "--port", str(_free_port())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=home,
            )
        # Open the poses first and without waiting: the engine opens them last.
        self._answers = os.open(poses, os.O_RDONLY | os.O_NONBLOCK)
        self._text = b""
        deadline = time.monotonic() + _START_SECONDS
        while self._actions is None:
            self._expect_running(deadline, "start")
            try:
                self._actions = os.open(actions, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # which says that the engine does not read yet
                    raise
                time.sleep(0.1)

    def _ask(self, line: str) -> Seen:
        os.write(self._actions, f"{line}\n".encode())
        words = self._answer().split()
        if words[0] == "error":
            raise LuantiError(f"the engine on {line!r}: {' '.join(words[1:])}")
        if len(words) != 5 or int(words[0]) != self._count:
            raise LuantiError(f"the engine answered {' '.join(words)!r} to step {self._count}, {line!r}")
        x, y, z, yaw = map(float, words[1:])
        return Seen(self._display.picture.read(), (-x, y, z, yaw))

    def _answer(self) -> str:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while b"\n" not in self._text:
            self._expect_running(deadline, "answer")
            if select.select([self._answers], [], [], 0.5)[0]:
                more = os.read(self._answers, 4096)
                if not more:  # the engine has not opened the pipe yet, or has ended
                    time.sleep(0.05)
                self._text += more
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def _expect_running(self, deadline: float, what: str) -> None:
        if self._process.poll() is not None:
            raise LuantiError(f"the engine ended with status {self._process.returncode}, see {self._log}")
        if time.monotonic() > deadline:
            raise LuantiError(f"the engine did not {what} in time, see {self._log}")

    def close(self) -> None:
        """End the engine, which saves its world, then its display."""
        for end in (self._actions, self._answers):
            if end is not None:
                os.close(end)
        self._actions = self._answers = None
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._display.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def expect_installed() -> str:
    """The path of the engine.

    Raises:
      LuantiError: the engine or the virtual display is not installed.
    """
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/games"])  # where Debian puts it
    program = next(filter(None, (shutil.which(name, path=places) for name in PROGRAMS)), None)
    if program is None:
        raise LuantiError(missing("Luanti"))
    if shutil.which("Xvfb") is None:
        raise LuantiError(missing("Xvfb"))
    return program


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
