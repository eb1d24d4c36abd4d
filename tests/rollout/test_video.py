"""Walks through a generated world: the episode's own actions, named ones, those of a file, and scripts that are wrong."""

import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from rad_jax import media, rollout
from rad_jax.data import DataError, Episodes
from rad_jax.main import main
from rad_jax.rollout import video
from rad_jax.rollout.predict import predict, read_clip
from rad_jax.rollout.video import condition_of, read_script
from rad_jax.runs.restore import load_trained
from tests.videos import read_video

CONTEXT, FUTURE = (
    36,
    24,
)  # of the first episode; scripts have as many steps, so that all walks are one program


@pytest.fixture
def walk(toy, monkeypatch, capsys):
    """Runs the mode with a script; returns the videos that are shown side by side, by their titles."""

    def run(script=None):
        shown = {}

        def show(columns, context):
            shown.update(columns)
            assert context == CONTEXT
            return side_by_side(columns, context)

        with monkeypatch.context() as patch:
            side_by_side = media.side_by_side
            patch.setattr(video.media, "side_by_side", show)
            script = [] if script is None else ["--actions", str(script)]
            assert main(toy.arguments(toy.written(), "--mode", "rollout", *script)) == 0
        path = capsys.readouterr().out.removeprefix("video: ").strip()
        assert path.startswith(str(toy.written() / "rollout"))
        assert len(read_video(path)) == CONTEXT + FUTURE
        return shown

    return run


@pytest.fixture(scope="module")
def mazes(toy) -> Episodes:
    return Episodes(toy.mazes, "test")


def names_of(actions, names) -> str:
    """A script of the form ``left*2,noop`` for one-hot rows."""
    runs = ((names[k], len(list(same))) for k, same in itertools.groupby(actions.argmax(-1)))
    return ",".join(name if count == 1 else f"{name}*{count}" for name, count in runs)


def test_own_actions_names_and_a_file_lead_to_the_same_walk(walk, toy, mazes, tmp_path):
    trained = load_trained(toy.written())
    clip = read_clip(mazes, 0, trained.config, trained.tokenizer)
    (expected,) = predict(trained, trained.params, [clip], 1)
    expected = np.concatenate([clip.frames[:CONTEXT], media.to_uint8(expected)])

    own = walk()
    assert list(own) == ["truth", "prediction"]
    np.testing.assert_array_equal(own["truth"], clip.frames)
    np.testing.assert_array_equal(own["prediction"], expected)

    future = mazes.read(0)["actions"][CONTEXT:]
    script = names_of(future, mazes.spec.info["actions"])
    assert "*" in script and "," in script
    np.savez(tmp_path / "script.npz", actions=future)
    for walked in (walk(script), walk(tmp_path / "script.npz")):
        assert list(walked) == ["prediction"]
        np.testing.assert_array_equal(walked["prediction"], expected)


def test_other_actions_lead_elsewhere_from_the_same_context(walk, mazes):
    own, other = walk()["prediction"], walk(f"noop*{FUTURE}")["prediction"]
    np.testing.assert_array_equal(own[:CONTEXT], other[:CONTEXT])
    assert (own[CONTEXT:] != other[CONTEXT:]).mean() > 0.1


def test_a_file_with_actions_and_poses_is_the_condition_of_the_episode(toy, mazes, tmp_path):
    trained = load_trained(toy.written("df", "action+pose"))
    config = trained.config
    clip, whole = read_clip(mazes, 1, config, trained.tokenizer), mazes.read(1)
    path = str(tmp_path / "script.npz")
    np.savez(path, actions=whole["actions"][clip.context :], pose=whole["pose"][clip.context :])
    given = clip.actions[: clip.context]
    found = condition_of(read_script(path, mazes.spec.info, config), mazes.spec, config, given)
    np.testing.assert_array_equal(found, clip.actions[clip.context :])


def test_names_tell_no_pose(toy, mazes):
    config = load_trained(toy.written("df", "action+pose")).config
    refuse("noop*3", mazes.spec, config, r"noop\*3: .* action\+pose")


def refuse(script, spec, config, match="--actions"):
    with pytest.raises(DataError, match=match) as info:
        read_script(str(script), spec.info, config)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "script",
    [
        "fly",
        "noop*",
        "noop*-1",
        "noop*1.5",
        "noop,,noop",
        "",
        "noop noop",
        "noop*0",
        "noop*²",
        "noop*9999999999",
    ],
)
def test_names_that_are_none_are_one_line(script, toy, mazes):
    refuse(script, mazes.spec, toy.config())


NOTHING = np.zeros((0, 6), np.float32)


@pytest.mark.parametrize(
    "arrays",
    [
        {"steps": np.zeros((3, 6))},
        {"actions": np.zeros((3, 5))},
        {"actions": np.zeros(6)},
        {"actions": np.array(1.0)},
        {"actions": NOTHING},
        {"actions": np.full((3, 6), np.nan)},
        {"actions": np.full((3, 6), "left")},
        {"actions": np.full((3, 6), None)},
        {"actions": np.full((3, 6), -(2**62))},
        {"actions": np.full((3, 6), 1e300)},
        {"actions": np.full((3, 6), 1j)},
        np.zeros((3, 6)),
    ],
    ids=[
        "name",
        "width",
        "row",
        "number",
        "empty",
        "nan",
        "text",
        "objects",
        "integers",
        "huge",
        "complex",
        "npy",
    ],
)
def test_a_file_that_does_not_fit_is_one_line(arrays, toy, mazes, tmp_path):
    path = tmp_path / "script.npz"
    if isinstance(arrays, dict):
        np.savez(path, **arrays)
    else:  # one array, and only the name of the file says that there are several
        with open(path, "wb") as file:
            np.save(file, arrays)
    refuse(path, mazes.spec, toy.config(), r"--actions .*script\.npz")


@pytest.mark.parametrize(
    "content", [None, b"", b"not an array", "half"], ids=["missing", "empty", "text", "half"]
)
def test_a_file_that_is_none_is_one_line(content, toy, mazes, tmp_path):
    path = tmp_path / "script.npz"
    if content == "half":
        np.savez(path, actions=np.zeros((100, 6)))
        content = path.read_bytes()[:300]
    if content is not None:
        path.write_bytes(content)
    refuse(path, mazes.spec, toy.config(), r"--actions .*script\.npz")


def test_each_result_has_a_name_of_its_own(toy, tmp_path, monkeypatch, capsys):
    """The same inputs have the same name; a script of another kind, letters or length, or another sampler, has another."""
    workdir = shutil.copytree(toy.written(), tmp_path / "run", ignore=shutil.ignore_patterns("rollout"))
    np.savez(tmp_path / "left.npz", actions=np.eye(6)[[0, 0, 1]])
    np.savez(tmp_path / "other.npz", actions=np.eye(6)[[0, 1, 1]])

    def walked(*more, **changes) -> str:
        assert main(toy.arguments(workdir, "--mode", "rollout", *more, **changes)) == 0
        return Path(capsys.readouterr().out.strip()).name

    def last_frames(run, params, clips, batch):
        return [np.repeat(c.frames[c.context - 1 : c.context] / 255, c.span.future, 0) for c in clips]

    monkeypatch.setattr(video, "predict", last_frames)
    scripts = [[], ["--actions", "noop*3"], ["--actions", "noop*2,left"], ["--episode", "1"]]
    scripts += [["--actions", str(tmp_path / f"{name}.npz")] for name in ("left", "other")]
    names = [*(walked(*script) for script in scripts), walked(sample__steps=1)]
    assert len(set(names)) == len(names) == len(list((workdir / "rollout").iterdir()))
    assert walked("--actions", "noop*3") == names[1]
    assert all(re.fullmatch(r"test-00000\d-[\w.]+-step24-[0-9a-f]{8}\.mp4", name) for name in names)
    (tmp_path / "left.npz").write_bytes((tmp_path / "other.npz").read_bytes())
    assert walked("--actions", str(tmp_path / "left.npz")) not in names


def test_a_prediction_that_is_not_finite_is_an_error_that_names_its_frame(toy, tmp_path, monkeypatch, capsys):
    workdir = shutil.copytree(toy.written(), tmp_path / "run", ignore=shutil.ignore_patterns("rollout"))
    generate = rollout.generate

    def poisoned(state, actions, keys):
        state, latents = generate(state, actions, keys)
        return state, latents.at[:, 5].set(np.nan)

    monkeypatch.setattr(rollout, "generate", poisoned)
    assert main(toy.arguments(workdir, "--mode", "rollout")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"frame {CONTEXT + 5} of the prediction is not finite" in line and "test-000000" in line
    assert not (workdir / "rollout").exists()


@pytest.mark.parametrize("more", [["--episode", "3"], ["--episode", "-1"], ["--actions", "fly"]])
def test_errors_exit_1_and_leave_no_video(more, toy, capsys):
    workdir = toy.written("df")
    assert main(toy.arguments(workdir, "--mode", "rollout", *more, variant="df")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {more[0]} ")
    assert not (workdir / "rollout").exists()
