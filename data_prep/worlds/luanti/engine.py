"""The engine as a process: one action in, one pose and the frame that shows it out."""

import os
import select
import shutil
import socket
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np

from data_prep.worlds.luanti.display import LuantiError, running, virtual_display
from data_prep.worlds.luanti.world import GAME, make_home
from data_prep.worlds.voxel.motion import Action, Seen

PROGRAMS = ("luanti", "minetest")  # the newer name first
_ANSWER_SECONDS = 210  # the first answer comes after the start


class Engine(AbstractContextManager):
    """A running engine with a world of its own; use it as a context manager.

    Args:
      home: a directory for its files, which no other engine may use.
      map_seed: the seed of the landscape.
      width, height: of the frames in pixels.

    Raises:
      LuantiError: it is not installed; from `reset` and `step`, it has ended, or does not answer.
    """

    def __init__(self, home: Path, map_seed: int, width: int, height: int):
        program = expect_installed()
        home = home.absolute()
        settings, world = make_home(home, map_seed, width, height)
        actions, poses = home / "actions", home / "poses"
        for pipe in (actions, poses):
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe)
        self._log = home / "engine.log"
        self._count, self._text = 0, b""
        with ExitStack() as stack:  # ends what has started if the rest does not start
            display, self._picture = stack.enter_context(virtual_display(home, width, height))
            environment = os.environ | {"HOME": str(home), "DISPLAY": display, "LIBGL_ALWAYS_SOFTWARE": "1"}
            environment |= {"RAD_IN": str(actions), "RAD_OUT": str(poses)}
            command = [program, "--config", settings, "--go", "--world", world, "--gameid", GAME]
            command += ["--name", "agent", "--port", str(_free_port())]
            self._process = stack.enter_context(running(command, self._log, env=environment, cwd=home))
            # For reading and writing, so that neither side waits for the other to open them. Closed first: an engine that
            # waits for an action must read the end of them before it can end.
            self._actions, self._answers = (os.open(pipe, os.O_RDWR) for pipe in (actions, poses))
            stack.callback(os.close, self._actions)
            stack.callback(os.close, self._answers)
            self._running = stack.pop_all()

    def reset(self, seed: int) -> Seen:
        """Go to a place and heading drawn from a seed below 2**31; takes some seconds, until the terrain has loaded."""
        self._count = 0
        return self._ask(f"reset {seed}")

    def step(self, action: Action) -> Seen:
        """Take one action."""
        self._count += 1
        return self._ask(" ".join(str(int(part)) for part in action))

    def _ask(self, line: str) -> Seen:
        os.write(self._actions, f"{line}\n".encode())
        words = self._answer().split()
        if words[0] == "error":
            raise LuantiError(f"the engine on {line!r}: {' '.join(words[1:])}")
        if len(words) != 5 or int(words[0]) != self._count:
            raise LuantiError(f"the engine answered {' '.join(words)!r} to step {self._count}, {line!r}")
        x, y, z, yaw = map(float, words[1:])
        return Seen(-x, y, z, yaw, np.ascontiguousarray(self._picture))

    def _answer(self) -> str:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while b"\n" not in self._text:
            if self._process.poll() is not None:
                raise LuantiError(f"the engine ended with status {self._process.returncode}, see {self._log}")
            if time.monotonic() > deadline:
                raise LuantiError(f"the engine did not answer in {_ANSWER_SECONDS} s, see {self._log}")
            if select.select([self._answers], [], [], 0.5)[0]:
                self._text += os.read(self._answers, 4096)
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def __exit__(self, *error: object) -> None:
        """Ends the engine, which saves its world, then its display."""
        self._running.close()


def expect_installed() -> str:
    """The path of the engine.

    Raises:
      LuantiError: the engine or the virtual display is not installed.
    """
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/games"])  # where Debian puts it
    program = next(filter(None, (shutil.which(name, path=places) for name in PROGRAMS)), None)
    for name, found in (("Luanti", program), ("Xvfb", shutil.which("Xvfb"))):
        if found is None:
            raise LuantiError(
                f"{name} is not installed; on Debian: apt-get install minetest xvfb libgl1-mesa-dri"
            )
    return program


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
