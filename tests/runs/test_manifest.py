"""A manifest says what a checkpoint is; one that cannot be is refused, also if it agrees with itself."""

import json
import shutil

import pytest

from rad_jax.files.json_files import sealed
from rad_jax.model.names import named_leaves
from rad_jax.runs import manifest
from rad_jax.runs.checkpoints import CheckpointError, Checkpoints, read_part
from tests.runs.test_checkpoints import config, make_state, save_steps


def test_a_step_under_the_name_of_another_is_not_that_step(tmp_path, caplog):
    save_steps(tmp_path, [3])
    shutil.copytree(tmp_path / "3", tmp_path / "7")
    with Checkpoints(tmp_path, config()) as checkpoints:
        state, content = checkpoints.restore(make_state())
    assert content.step == int(state["step"]) == 3
    assert "checkpoint 7" in caplog.text and "is of step 3" in caplog.text


@pytest.mark.parametrize(
    "change, field",
    [
        ({"step": "3"}, "step"),
        ({"step": None}, "step"),
        ({"leaves": {"params/a": [3, "float32"]}}, "leaves"),
        ({"leaves": []}, "leaves"),
        ({"files": {"state/a": 3}}, "files"),
        ({"metadata": [1]}, "metadata"),
        ({"format": "1"}, "format"),
    ],
)
def test_a_manifest_of_another_form_is_damage(change, field, tmp_path):
    """Also one whose sha256 is that of its content."""
    save_steps(tmp_path, [1])
    path = tmp_path / "1" / manifest.FILE
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | change)))
    with pytest.raises(manifest.DamagedCheckpoint, match=field):
        manifest.verify(tmp_path / "1")


def test_what_orbax_cannot_read_is_one_line(tmp_path):
    """The manifest of a stranger may agree with files that are no checkpoint."""
    save_steps(tmp_path, [1])
    step = tmp_path / "1"
    for path in (step / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"nothing")
    leaves = {name: (leaf.shape, leaf.dtype.name) for name, leaf in named_leaves(make_state()).items()}
    manifest.Manifest(1, leaves, {}).write(step, step / "manifest")
    for read in (lambda: read_part(tmp_path, "params"), lambda: restore(tmp_path)):
        with pytest.raises(CheckpointError, match="checkpoint 1 in") as info:
            read()
        assert len(str(info.value).splitlines()) == 1


def restore(directory):
    with Checkpoints(directory, config()) as checkpoints:
        return checkpoints.restore(make_state())


def test_a_manifest_cannot_name_files_outside(tmp_path):
    save_steps(tmp_path, [1])
    (tmp_path / "secret").write_text("x")
    path = tmp_path / "1" / manifest.FILE
    body = json.loads(path.read_text())
    del body["sha256"]
    body["files"]["../secret"] = [1, "00"]
    path.write_text(json.dumps(sealed(body)))
    with pytest.raises(manifest.DamagedCheckpoint, match="outside"):
        manifest.read(tmp_path / "1")
