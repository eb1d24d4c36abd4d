"""What is done to folders of strangers, and what they are compared with."""

import json
import os
import shutil
from pathlib import Path

from rad_jax.data.index import write_index
from rad_jax.files.json_files import sealed
from rad_jax.main import main

SHORT = {"evaluate__videos": 1, "evaluate__side_by_side": 0, "evaluate__figure3": False}


def snapshot(root):
    """Paths, times and contents of everything but the stranger's folders, which are called "stranger"."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith("stranger")]
        for name in [*folders, *names]:
            path = Path(folder, name)
            found[path] = path.lstat().st_mtime_ns, path.read_bytes() if name in names else b""
    return found


def change(path, **values):
    """Changes entries of a JSON file; its sha256, if it has one, is that of the changed content."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps(sealed(content) if path.name in ("index.json", "manifest.json") else content))


def change_info(directory, **values):
    index = json.loads((directory / "index.json").read_text())
    for split in index["splits"].values():
        split["info"] |= values
    write_index(directory, index)


def as_mode(mode):
    def do(toy, workdir):
        if mode != "compare":
            return main(toy.arguments(workdir, "--mode", mode, **SHORT))
        arguments = toy.arguments(workdir, "--mode", mode, "--variants", "lstm-f", "--no-ablations")
        return main(["--config", arguments[1].partition(":")[0], *arguments[2:]])

    return do


MODES = {mode: as_mode(mode) for mode in ("train", "evaluate", "rollout", "export", "compare")}


def refused(capsys, *words):
    """The one line of an error, which has no control characters."""
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ") and line.isprintable() and len(line) < 1200, line
    assert all(str(word) in line for word in words), line
    return line


COMMAND = "touch {0}; touch mark"


def hostile(path, mark, nested=lambda values: values):
    """Every command that a configuration can hold is to be run, because nothing is where it says."""
    values = json.loads(path.read_text())
    command = COMMAND.format(mark)
    config, made = nested(values), {"make": command, "auto_make": True, "path": str(mark / "none")}
    config["data"] |= made
    config["evaluate"] |= made | {"more_make": command, "more": f"further={mark}/none"}
    config["train"] |= {"init_from": str(mark)}
    path.write_text(json.dumps(values))


def replace_by_link(path, target):
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def replace_by_pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)
