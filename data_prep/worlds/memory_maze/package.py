"""Loading the `memory-maze` package: its pinned versions, without gym, with an OpenGL that works without a display."""

import contextlib
import ctypes.util
import importlib.util
import logging
import os
import sys
import types
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from rad_jax.errors import UserError

# Other versions of mujoco turn the wall textures around or do not run; see the README.
PINS = {"memory-maze": "1.0.3", "dm_control": "1.0.31", "mujoco": "3.3.3", "labmaze": "1.0.6"}
INSTALL = 'pip install -e ".[memory-maze]"'
PACKAGES_EGL = "libegl1 libegl-mesa0 libopengl0 libgl1-mesa-dri libgbm1"
PACKAGES_OSMESA = "libosmesa6"
_BACKENDS = {
    "egl": "EGL",
    "osmesa": "OSMesa",
}  # value of MUJOCO_GL -> name of the library, the first that is there
_HARMLESS = "Cannot set velocity on Entity with no free joint"


class MemoryMazeError(UserError, RuntimeError):
    """The simulator cannot be used here; the message says in one line what is missing and how to get it."""


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
    """How MuJoCo gets its OpenGL: what MUJOCO_GL says, or else EGL, or OSMesa where only that is there.

    Raises:
      MemoryMazeError: MUJOCO_GL names none of the two, or neither library is there.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if chosen:
        if chosen.lower() not in _BACKENDS:
            raise MemoryMazeError(f"MUJOCO_GL is {chosen!r}, expected egl or osmesa: there is no display")
        return chosen.lower()
    for name, library in _BACKENDS.items():
        if ctypes.util.find_library(library):
            return name
    raise MemoryMazeError(f"no OpenGL library was found; {_how_to_get_one()}")


def load_tasks() -> types.ModuleType:
    """The module `memory_maze.tasks`.

    The package's own `__init__` fails without gym, for which it only registers the tasks, so it is not executed: an
    empty package with the same path stands in for it.

    Raises:
      MemoryMazeError: see `check_installed`, or OpenGL does not start.
    """
    check_installed()
    os.environ["MUJOCO_GL"] = backend()
    logging.getLogger("absl").addFilter(lambda record: _HARMLESS not in record.getMessage())
    try:
        with _filters_of_warnings_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if "memory_maze" not in sys.modules:
                spec = importlib.util.find_spec("memory_maze")
                package = types.ModuleType("memory_maze")
                package.__spec__, package.__path__ = spec, spec.submodule_search_locations
                sys.modules["memory_maze"] = package
            return importlib.import_module("memory_maze.tasks")
    except Exception as error:  # what a missing or broken driver raises depends on where it is noticed
        sys.modules.pop("memory_maze", None)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise MemoryMazeError(
            f"MuJoCo did not start with MUJOCO_GL={os.environ['MUJOCO_GL']} ({reason}); {_how_to_get_one()}"
        ) from error


def _how_to_get_one() -> str:
    return f"on Debian: apt-get install {PACKAGES_EGL} (or {PACKAGES_OSMESA}, then MUJOCO_GL=osmesa)"


@contextlib.contextmanager
def _filters_of_warnings_kept() -> Iterator[None]:
    """dm_control turns all deprecation warnings on when it is imported."""
    filters = warnings.filters[:]
    try:
        yield
    finally:
        warnings.filters[:] = filters
