"""What a run keeps of its data and tokenizer, and evaluation sets that are not of that kind."""

import dataclasses
import json
import shutil

import pytest

from data_prep import make_maze
from rad_jax.config import ConfigError
from rad_jax.data import DataError, Episodes
from rad_jax.data.index import write_index
from rad_jax.main import main
from rad_jax.runs import trained_on
from rad_jax.runs.trained_on import TrainedOn, check_evaluation_set, digest_of
from rad_jax.runs.training_run import open_training_run
from tests.tokenizer.random_weights import save_sd_vae
from tests.toy_run import silence


@pytest.fixture
def facts(toy):
    return TrainedOn.of(open_training_run(toy.config()))


def test_what_is_kept_is_what_is_read(facts, toy, tmp_path):
    facts.keep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"trained_on.json", "tokenizer.npz"}
    assert (tmp_path / "tokenizer.npz").read_bytes() == (toy.rooms / "tokenizer.npz").read_bytes()
    found = TrainedOn.read(tmp_path)
    assert found == dataclasses.replace(facts, file=tmp_path / "tokenizer.npz")
    assert (
        found.frame_size == (16, 16)
        and found.info["actions"] == Episodes(toy.rooms, "train").spec.info["actions"]
    )
    found.keep(tmp_path)  # a copy onto itself
    assert TrainedOn.read(tmp_path) == found


def test_a_large_tokenizer_stays_where_it_is(toy, tmp_path, monkeypatch):
    """The configuration says ``rooms``; what the run keeps says where that was."""
    monkeypatch.setattr(trained_on, "SMALL", 100)
    monkeypatch.chdir(toy.directory)
    TrainedOn.of(open_training_run(toy.config(changes={"data.path": toy.rooms.name}))).keep(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert TrainedOn.read(tmp_path).file == toy.rooms / "tokenizer.npz"
    assert not (tmp_path / "tokenizer.npz").exists()


def test_a_network_that_needs_the_file_beside_it_stays_where_it_is(facts, tmp_path):
    """The sizes of this small VAE are in its config.json; a copy of the weights alone could not be read."""
    source = save_sd_vae(tmp_path / "vae")
    assert source.with_name("config.json").exists()
    from rad_jax import tokenizer

    fingerprint = tokenizer.load("sd_vae", source).fingerprint
    facts = dataclasses.replace(facts, tokenizer="sd_vae", fingerprint=fingerprint, file=source)
    (tmp_path / "run").mkdir()
    facts.keep(tmp_path / "run")
    assert TrainedOn.read(tmp_path / "run").file == source
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["trained_on.json"]


def write_changed(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "cut": lambda path: path.write_text(path.read_text()[:50]),
    "brackets": lambda path: path.write_text("[" * 90_000),
    "a list": lambda path: path.write_text("[]"),
    "not text": lambda path: path.write_bytes(b"\xff\xfe"),
    "another version": lambda path: write_changed(path, format="x"),
    "a path outside": lambda path: write_changed(path, file="../tokenizer.npz"),
    "no path": lambda path: write_changed(path, file=""),
    "a size of one number": lambda path: write_changed(path, frame_size=[16]),
    "a number for a digest": lambda path: write_changed(path, digest=3),
    "info that is a number": lambda path: write_changed(path, info=3),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_line(case, facts, tmp_path):
    facts.keep(tmp_path)
    DAMAGE[case](tmp_path / "trained_on.json")
    with pytest.raises(ConfigError, match="damaged") as info:
        TrainedOn.read(tmp_path)
    assert str(tmp_path / "trained_on.json") in str(info.value) and len(str(info.value).splitlines()) == 1


def test_a_digest_is_of_what_the_data_are_and_not_of_where(toy, tmp_path):
    moved = shutil.copytree(toy.rooms, tmp_path / "moved")
    expected = digest_of(Episodes(toy.rooms, "train"))
    assert digest_of(Episodes(moved, "train")) == expected
    change_info(moved, "train", source="another description", command="made in another way")
    assert digest_of(Episodes(moved, "train")) == expected
    change_info(moved, "train", pose_scale=[1.0, 1.0, 1.0, 1.0])
    assert digest_of(Episodes(moved, "train")) != expected
    assert digest_of(Episodes(toy.mazes, "test")) != expected


def change_info(directory, split, **changes):
    index = json.loads((directory / "index.json").read_text())
    index["splits"][split]["info"] |= changes
    write_index(directory, index)


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Evaluation episodes of 32 px."""
    directory = tmp_path_factory.mktemp("larger") / "mazes"
    options = "--protocol return --size 5 --pixels 32 --episodes 1 --min-frames 36 --max-frames 60"
    with silence():
        assert make_maze.main(["--out", str(directory), *options.split()]) == 0
    return directory


@pytest.mark.parametrize("mode", ["evaluate", "rollout"])
def test_an_evaluation_set_of_another_frame_size_is_one_line(mode, larger, toy, tmp_path, capsys):
    workdir = shutil.copytree(toy.written(), tmp_path / "run")
    before = {path.name for path in workdir.iterdir()}
    assert main(toy.arguments(workdir, "--mode", mode, evaluate__path=larger)) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert str(larger) in line and "32, 32" in line and "16, 16" in line
    assert captured.out == "" and {path.name for path in workdir.iterdir()} == before


@pytest.mark.parametrize("more", [False, True])
def test_a_comparison_refuses_an_evaluation_set_of_another_kind_before_it_trains(
    more, larger, toy, tmp_path, capsys
):
    other = {"evaluate__more": f"larger={larger}"} if more else {"evaluate__path": larger}
    arguments = toy.arguments(tmp_path / "runs", "--mode", "compare", "--variants", "df", **other)
    arguments[1] = arguments[1].partition(":")[0]
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "32, 32" in line and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "condition", "refused"),
    [
        ("actions", "action", True),
        ("pose", "action+pose", True),
        ("pose", "action", False),
        ("pose_scale", "action+pose", False),
        ("source", "action+pose", False),
    ],
)
def test_columns_of_equal_number_and_another_meaning_are_refused(
    name, condition, refused, facts, toy, tmp_path
):
    """Where the model does not see the pose, its columns do not matter; scales differ between mazes of different sizes."""
    copy = shutil.copytree(toy.mazes, tmp_path / "mazes")
    expected = Episodes(copy, "test").spec.info[name]
    changed = list(reversed(expected)) if isinstance(expected, list) else "elsewhere"
    if name == "pose_scale":
        changed = [2 * factor for factor in expected]
    change_info(copy, "test", **{name: changed})
    check_evaluation_set(Episodes(toy.mazes, "test"), facts, condition)
    if not refused:
        return check_evaluation_set(Episodes(copy, "test"), facts, condition)
    with pytest.raises(DataError) as info:
        check_evaluation_set(Episodes(copy, "test"), facts, condition)
    line = str(info.value)
    assert str(copy) in line and ", ".join(changed) in line and ", ".join(expected) in line
    assert len(line.splitlines()) == 1
