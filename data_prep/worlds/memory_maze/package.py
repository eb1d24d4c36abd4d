"""Loading the `memory-maze` package: its pinned versions, without gym, with an OpenGL that works without a display."""

import ctypes.util
import importlib.util
import logging
import os
import sys
import types
import warnings
from importlib.metadata import PackageNotFoundError, version

from rad_jax.errors import UserError

# Other versions of mujoco mirror the wall textures or do not run; see docs/data.md.
PINS = {"memory-maze": "1.0.3", "dm_control": "1.0.31", "mujoco": "3.3.3", "labmaze": "1.0.6"}
INSTALL = 'pip install -e ".[memory-maze]"'
INSTALL_OPENGL = (
    "on Debian: apt-get install libegl1 libegl-mesa0 libopengl0 libgl1-mesa-dri libgbm1 "
    "(or libosmesa6, then MUJOCO_GL=osmesa)"
)
# Value of MUJOCO_GL -> name of the library; the first is preferred.
_BACKENDS = {"egl": "EGL", "osmesa": "OSMesa"}
_HARMLESS = "Cannot set velocity on Entity with no free joint"


class MemoryMazeError(UserError, RuntimeError):
    """The simulator cannot be used here; the message says in one line what is missing and how to install it."""


def check_installed() -> None:
    """Check the packages without loading them.

    Raises:
      MemoryMazeError: one is missing or of another version, or there is no OpenGL library.
    """
    for name, expected in PINS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            raise MemoryMazeError(
                f"the package {name} is not installed; install it with: {INSTALL}"
            ) from None
        if found != expected:
            raise MemoryMazeError(f"{name} is {found}, expected {expected}; install it with: {INSTALL}")
    backend()


def backend() -> str:
    """The OpenGL that MuJoCo uses: what MUJOCO_GL says, else EGL, else OSMesa.

    Raises:
      MemoryMazeError: MUJOCO_GL is neither of them, or neither library is installed.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if chosen:
        if chosen.lower() not in _BACKENDS:
            raise MemoryMazeError(f"MUJOCO_GL is {chosen!r}, expected egl or osmesa: there is no display")
        return chosen.lower()
    for name, library in _BACKENDS.items():
        if ctypes.util.find_library(library):
            return name
    raise MemoryMazeError(f"no OpenGL library was found; {INSTALL_OPENGL}")


def load_tasks() -> types.ModuleType:
    """The module `memory_maze.tasks`.

    The package's `__init__` only registers the tasks with gym, and fails without it, so it is not executed: an empty package
    with the same path takes its place.

    Raises:
      MemoryMazeError: see `check_installed`, or OpenGL does not start.
    """
    check_installed()
    os.environ["MUJOCO_GL"] = backend()
    logging.getLogger("absl").addFilter(lambda record: _HARMLESS not in record.getMessage())
    try:
        with warnings.catch_warnings():  # dm_control turns all deprecation warnings on; this undoes it
            warnings.simplefilter("ignore")
            if "memory_maze" not in sys.modules:
                spec = importlib.util.find_spec("memory_maze")
                package = types.ModuleType("memory_maze")
                package.__spec__, package.__path__ = spec, spec.submodule_search_locations
                sys.modules["memory_maze"] = package
            return importlib.import_module("memory_maze.tasks")
    except Exception as error:  # a missing or broken driver raises all kinds of errors
        sys.modules.pop("memory_maze", None)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise MemoryMazeError(
            f"MuJoCo did not start with MUJOCO_GL={os.environ['MUJOCO_GL']} ({reason}); {INSTALL_OPENGL}"
        ) from error
