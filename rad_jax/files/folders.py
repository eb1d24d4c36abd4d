"""Folders that may come from a stranger, and into which something is about to be written."""

import contextlib
import os
from pathlib import Path

from rad_jax.errors import UserError, shown


class UnsafeFolder(UserError, ValueError):
    """A folder with something in it that leads a writer elsewhere, or lets a reader wait for ever."""


def check_folder(directory: str | os.PathLike) -> None:
    """Passes if a folder holds files, folders and links to what is inside it, or if there is none.

    Whatever writes into a folder calls it first. The folder itself may be a link: that is how one moves it to another disk.

    Raises:
      UnsafeFolder: below it is a link that leads out of it, or a pipe, a socket or a device.
      OSError: a folder below it cannot be listed.
    """
    root = os.path.realpath(directory)
    waiting = [root]
    while waiting:
        # What is gone by now was another process's.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_symlink():
                    target = Path(os.path.realpath(entry.path))
                    if not target.is_relative_to(root):
                        raise UnsafeFolder(
                            f"{shown(entry.path)} is a link to {shown(target)}, outside of {directory}: "
                            "nothing is written to such a folder; put a copy there, or remove the link"
                        )
                elif not entry.is_file(follow_symlinks=False):
                    raise UnsafeFolder(
                        f"{shown(entry.path)} is a pipe, a socket or a device, expected files and folders; remove it"
                    )
