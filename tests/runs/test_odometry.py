"""A run whose poses are added up from actions: fitted once, kept, resumed, exported; then no data set needs a pose."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from rad_jax.comparison.compare import open_comparison
from rad_jax.comparison.runs import list_runs
from rad_jax.config import ConfigError
from rad_jax.data import DataError, Episodes, write_split
from rad_jax.data.windows import Windows
from rad_jax.evaluation.bounds import bound_predictions
from rad_jax.main import main
from rad_jax.odometry import follow, start
from rad_jax.rollout.predict import read_clip
from rad_jax.rollout.video import condition_of, read_script
from rad_jax.runs import odometry
from rad_jax.runs.export import export, load_pretrained
from rad_jax.runs.odometry import fit_odometry, kept_odometry, with_odometry
from rad_jax.runs.restore import load_trained
from rad_jax.runs.trained_on import TrainedOn
from rad_jax.runs.training_run import open_training_run
from tests.runs.test_trained_on import write_changed
from tests.toy_run import EXPERIMENT, assert_same, read_state, silence

CONDITION = "action+odometry"
CHANGES = {"data__condition": CONDITION, "checkpoint__every": 1, "checkpoint__keep_every": 1}


def without_pose(source, directory, split):
    """A copy of a data set that says nothing of where its frames were seen from."""
    episodes = Episodes(source, split)
    hidden = {"pose", "agent_pos", "agent_dir", "target_vec", "targets_vec"}
    arrays = {name: array for name, array in episodes.spec.arrays.items() if name not in hidden}
    info = {name: value for name, value in episodes.spec.info.items() if not name.startswith("pose")}
    spec = dataclasses.replace(episodes.spec, arrays=arrays, info=info)

    def make(indices):
        for index in indices:
            shown = {name: array for name, array in episodes.read(index).items() if name in arrays}
            yield {"episode_id": episodes.ids[index]} | shown | episodes.static(index)

    write_split(directory, split, spec, make, len(episodes), episodes_per_shard=len(episodes))
    return directory


@pytest.fixture(scope="module")
def blind(toy, tmp_path_factory):
    """The evaluation episodes without a pose."""
    return without_pose(toy.mazes, tmp_path_factory.mktemp("blind") / "mazes", "test")


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """Trained for two steps; without a memory, because compiling is what costs."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    with silence():
        assert main(toy.arguments(workdir, variant="df", train__steps=2, **CHANGES)) == 0
    return workdir


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_that_goes_on_uses_what_it_began_with(lost, run, toy, tmp_path, monkeypatch, capsys):
    """From its facts or, where these are lost, from its checkpoint; a second fit is never made."""
    workdir, expected = shutil.copytree(run, tmp_path / "run"), TrainedOn.read(run).odometry
    parts = open_training_run(load_trained(run).config)
    monkeypatch.setattr(odometry, "fit", None)
    if not lost:
        assert with_odometry(parts, workdir).odometry == expected
        return
    shutil.rmtree(workdir / "checkpoints" / "2")
    (workdir / "trained_on.json").unlink()
    assert main(toy.arguments(workdir, variant="df", train__steps=2, **CHANGES)) == 0
    assert (workdir / "trained_on.json").read_bytes() == (run / "trained_on.json").read_bytes()
    assert_same(*(read_state(place, parts) for place in (workdir, run)))


def test_a_fit_is_of_the_training_data_and_its_windows_are_made_of_it(run, toy):
    trained = load_trained(run)
    config, taps, episodes = trained.config.data, trained.odometry, Episodes(toy.rooms, "train")
    assert taps == fit_odometry(episodes, config) and taps.plane == (0, 1) and taps.scale == (1 / 3, 1 / 3)
    assert trained.config.model.pose == (2, config.heading_harmonics)
    left = np.eye(6)[[2] * 5]
    np.testing.assert_allclose(
        np.degrees(follow(taps, start(taps), left)[2]), [30, 60, 90, 120, 150], atol=0.01
    )
    windows = Windows(episodes, config, taps)
    window = windows[5]  # from the middle of an episode on
    _, begin = window["clip_id"].tolist()
    assert begin == 5 and not window["actions"][0, :6].any()
    assert window["actions"][0, 6:10].tolist() == [0, 0, 1, 0]
    pose = episodes.read(0, begin, begin + config.clip)["pose"].astype(np.float64)
    expected = np.unwrap(np.arctan2(pose[:, 3], pose[:, 2]))
    found = np.unwrap(np.arctan2(window["actions"][:, 9], window["actions"][:, 8]))
    np.testing.assert_allclose(found, expected - expected[0], atol=1e-3)


def test_an_evaluation_and_a_rollout_need_no_pose(run, blind, toy, tmp_path, capsys):
    workdir = shutil.copytree(run, tmp_path / "run")
    arguments = {**CHANGES, "train__steps": 2, "evaluate__path": blind, "data__path": tmp_path / "gone"}
    arguments |= {"evaluate__videos": 1, "evaluate__side_by_side": 1}
    assert main(toy.arguments(workdir, "--mode", "evaluate", variant="df", **arguments)) == 0
    rows = json.loads((workdir / "evaluation" / "metrics.json").read_text())["rows"]
    assert "nearest earlier view" not in rows and "nearest earlier view by its tokens" in str(list(rows))
    trained = load_trained(workdir)
    clips = [
        read_clip(Episodes(path, "test"), 0, trained.config, trained.tokenizer, odometry=trained.odometry)
        for path in (blind, toy.mazes)
    ]
    np.testing.assert_array_equal(clips[0].actions, clips[1].actions)
    capsys.readouterr()


def test_a_script_goes_on_from_where_the_context_ends(run, blind, tmp_path):
    trained, episodes = load_trained(run), Episodes(blind, "test")
    config, taps = trained.config, trained.odometry
    clip = read_clip(episodes, 1, config, trained.tokenizer, odometry=taps)
    future = episodes.read(1)["actions"][clip.context :]
    np.savez(tmp_path / "script.npz", actions=future)
    names = [episodes.spec.info["actions"][k] for k in future.argmax(axis=1)]
    for script in (str(tmp_path / "script.npz"), ",".join(names)):
        arrays = read_script(script, trained.trained_on.info, config)
        found = condition_of(arrays, episodes.spec, config, clip.actions[: clip.context], taps)
        np.testing.assert_array_equal(found, clip.actions[clip.context :])


def test_an_export_has_it_in_both_forms(run, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "run")
    directory, expected = export(workdir), TrainedOn.read(run).odometry
    assert load_pretrained(directory).odometry == expected
    (directory / "config.json").unlink()
    assert load_pretrained(directory, directory / "tokenizer.npz").odometry == expected
    assert load_pretrained(directory / "orbax", directory / "tokenizer.npz").odometry == expected


def test_a_run_without_training_poses_writes_nothing(toy, tmp_path, capsys):
    rooms = without_pose(toy.rooms, tmp_path / "rooms", "train")
    shutil.copy(toy.rooms / "tokenizer.npz", rooms / "tokenizer.npz")
    before = {path.name for path in tmp_path.iterdir()}
    changes = {"data__path": rooms, "data__condition": CONDITION}
    changes["tokenizer__path"] = rooms / "tokenizer.npz"
    assert main(toy.arguments(tmp_path / "run", **changes)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "data.condition=action+odometry: the training set has no pose to fit" in line
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_comparison_takes_an_evaluation_set_without_a_pose(blind, toy, tmp_path):
    """Only trainings fit an odometry; what shows frames alone needs none."""
    settings = toy.settings({"data.condition": CONDITION, "evaluate.path": str(blind)})
    overrides = [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in settings.items()
    ]
    comparison = list_runs(str(EXPERIMENT), "df", overrides, ablations=False)
    training, sets = open_comparison(comparison, tmp_path / "runs")[1:]
    assert training.odometry is None and list(sets) == ["return"]
    _, clip, rows = next(bound_predictions(training.tokenizer, training.config, sets["return"]))
    assert "nearest earlier view" not in rows and clip.context == 36
    true = next(bound_predictions(training.tokenizer, training.config, Episodes(toy.mazes, "test")))[2]
    assert "nearest earlier view" in true  # by the true pose, where it is known


def test_poses_that_cannot_be_fitted_are_one_line(toy, monkeypatch):
    def no_actions(*arguments):
        raise ValueError("there is no action between two frames")

    monkeypatch.setattr(odometry, "fit", no_actions)
    run = open_training_run(toy.config(changes={"data.condition": CONDITION}))
    with pytest.raises(DataError, match=r"action\+odometry: the poses of .* cannot be fitted") as info:
        with_odometry(run, toy.directory / "none")
    assert "\n" not in str(info.value)


def test_other_conditions_need_none(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(odometry, "fit", None)
    for condition in ("action", "action+pose"):
        run = open_training_run(toy.config(changes={"data.condition": condition}))
        assert with_odometry(run, tmp_path) == run and run.odometry is None
        assert TrainedOn.of(run).odometry is None


def remove_odometry(path):
    content = json.loads(path.read_text())
    del content["odometry"]
    path.write_text(json.dumps(content))


def halve(path):
    scale = json.loads(path.read_text())["odometry"] | {"scale": [0.5, 0.5]}
    write_changed(path, odometry=scale)


DAMAGE = {
    "none": (remove_odometry, "no odometry|another odometry"),
    "null": (lambda path: write_changed(path, odometry=None), "no odometry|another odometry"),
    "a number": (lambda path: write_changed(path, odometry=3), "damaged"),
    "a part": (lambda path: write_changed(path, odometry={"plane": [0, 1]}), "damaged"),
    "another run's": (halve, "another odometry"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_run_whose_odometry_is_lost_or_another_is_not_read(case, run, tmp_path):
    damage, words = DAMAGE[case]
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    damage(workdir / "trained_on.json")
    with pytest.raises(ConfigError, match=words) as info:
        load_trained(workdir)
    assert str(workdir) in str(info.value) and "\n" not in str(info.value)
    if case in ("none", "null"):  # the checkpoint has it
        assert kept_odometry(workdir) == TrainedOn.read(run).odometry
    else:
        with pytest.raises(ConfigError, match=words):
            kept_odometry(workdir)


def test_facts_of_an_earlier_version_can_be_read(toy, tmp_path):
    workdir = shutil.copytree(toy.written(), tmp_path / "run")
    remove_odometry(workdir / "trained_on.json")
    assert load_trained(workdir).odometry is None
