"""The manifest of a checkpoint: what its files must contain, written before the checkpoint counts as complete.

`manifest/manifest.json` of a step names every file with its size and sha256, every stored leaf with its shape and dtype,
and the run's own metadata. Orbax restores flipped bytes without an error and takes an empty directory named "7" for the newest
step, so a step is used only after its files have been compared with its manifest.
"""

import dataclasses
import hashlib
import os
import pathlib
from typing import Any

import orbax.checkpoint as ocp

from rad_jax.errors import UserError
from rad_jax.files import write_json
from rad_jax.files.folders import UnsafeFolder, check_folder
from rad_jax.files.json_files import check_form, check_seal, read_json, sealed

FILE = pathlib.PurePath("manifest", "manifest.json")
FORMAT = 1
_FORM = {"step": int, "leaves": {"*": ([int], str)}, "metadata": dict, "files": {"*": (int, str)}}


class DamagedCheckpoint(UserError, ValueError):
    """A step's files are not what its manifest says; the message names the file."""


class UnknownFormat(UserError, ValueError):
    """The step is intact but was written in a format that this version does not read."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """`leaves`: name -> (shape, dtype name). `metadata`: what the run stored beside its state (JSON)."""

    step: int
    leaves: dict[str, tuple[tuple[int, ...], str]]
    metadata: dict[str, Any]

    def write(self, step_directory: pathlib.Path, directory: pathlib.Path) -> None:
        """Hashes the files of the step's state on the disk and writes the manifest into `directory`."""
        files = {}
        for path in sorted(p for p in (step_directory / "state").rglob("*") if p.is_file()):
            files[path.relative_to(step_directory).as_posix()] = [path.stat().st_size, _sha256(path)]
        body = {"format": FORMAT, **dataclasses.asdict(self), "files": files}
        write_json(directory / FILE.name, sealed(body))


def read(step_directory: pathlib.Path, contents: bool = False) -> Manifest:
    """The manifest of a step, after checking that its files exist with the right sizes and, on demand, with their contents.

    Raises:
      DamagedCheckpoint: a file is missing or is another one, the directory has the name of another step, or the manifest is
        unreadable.
      UnknownFormat: another version wrote it.
    """
    try:
        check_folder(step_directory)
        body = read_json(step_directory / FILE, {"format": int, "sha256": str})
        check_seal(body)
        if body["format"] == FORMAT:
            check_form(body, _FORM)
    except UnsafeFolder as error:
        raise DamagedCheckpoint(str(error)) from None
    except OSError as error:
        raise DamagedCheckpoint(f"{FILE} is missing or unreadable ({error.strerror})") from None
    except ValueError as error:
        raise DamagedCheckpoint(f"{FILE} is damaged ({error})") from None
    if body["format"] != FORMAT:
        raise UnknownFormat(
            f"{step_directory / FILE} has format {body['format']}, this version reads {FORMAT}"
        )
    if step_directory.name.isdecimal() and step_directory.name != str(body["step"]):
        raise DamagedCheckpoint(f"{FILE} is of step {body['step']}")
    for name, (size, sha256) in body["files"].items():
        path = step_directory / name
        if {"", ".", ".."} & set(name.split("/")) or "\0" in name:
            raise DamagedCheckpoint(f"{FILE} names a file outside the checkpoint: {name!a}")
        try:
            found = path.stat().st_size
            changed = contents and found == size and _sha256(path) != sha256
        except OSError as error:
            raise DamagedCheckpoint(f"{name} is missing or unreadable ({error.strerror})") from None
        if found != size:
            raise DamagedCheckpoint(f"{name} has {found} bytes instead of {size}")
        if changed:
            raise DamagedCheckpoint(f"{name} has changed since it was written")
    leaves = {name: (tuple(shape), dtype) for name, (shape, dtype) in body["leaves"].items()}
    return Manifest(body["step"], leaves, body["metadata"])


def verify(step_directory: pathlib.Path) -> Manifest:
    """Like `read`, but compares every file with its checksum as well."""
    return read(step_directory, contents=True)


def saved_steps(directory: pathlib.Path) -> list[int]:
    """The finished steps in a directory of checkpoints, oldest first; empty if there is no such directory."""
    names = [path.name for path in directory.glob("*") if path.name.isdecimal() and path.is_dir()]
    return sorted(int(name) for name in names if name == str(int(name)))


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ManifestHandler(ocp.CheckpointHandler):
    """Writes the manifest in Orbax's `finalize`: after the state is written, before the step's directory gets its final name.

    A step with its final name therefore has a manifest, whenever the process was killed.
    """

    def save(self, directory: os.PathLike, args: "ManifestSave") -> None:
        self._pending = args.manifest

    def finalize(self, directory: os.PathLike) -> None:
        item = pathlib.Path(directory)
        self._pending.write(item.parent, item)

    def restore(self, directory: os.PathLike, args: Any = None) -> Manifest:
        return read(pathlib.Path(directory).parent)


@ocp.args.register_with_handler(ManifestHandler, for_save=True)
@dataclasses.dataclass
class ManifestSave(ocp.args.CheckpointArgs):
    """Argument of an Orbax save: the manifest that goes with the state."""

    manifest: Manifest
