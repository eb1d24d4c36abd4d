"""Runs that are killed, stopped, continued, refused or poisoned, and one on four devices, against one that just ran."""

import contextlib
import gc
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import chex
import jax
import numpy as np
import pytest

from rad_jax.config import ConfigError, config_from_json, override
from rad_jax.data import DataError
from rad_jax.main import main
from rad_jax.model.names import named_leaves
from rad_jax.runs import stored_config
from rad_jax.runs.manifest import saved_steps
from rad_jax.runs.training_run import open_training_run
from rad_jax.training import loop, samples, sharding, step
from rad_jax.training.log import Writer
from tests.toy_run import (
    EXPERIMENT,
    ROOT,
    SAVED,
    SETTINGS,
    STEPS,
    assert_same,
    read_metrics,
    read_state,
    stop_during,
)
from tests.videos import read_video


class Interrupted(NamedTuple):
    """What was seen of a run that was interrupted twice."""

    workdir: Path
    refused: tuple[int, str, bool]  # status and message of a second process, whether the run was left alone
    unfinished_saves: int
    first_steps: list[int]  # newest checkpoint at each start
    stopped: tuple[int, str, int]  # status, message, last line of metrics.jsonl
    held: list[int]  # bytes of arrays that were alive at each of the last steps


@pytest.fixture(scope="module")
def interrupted(toy) -> Interrupted:
    """Killed inside a save, stopped by SIGTERM, then left to end; always one command."""
    workdir = toy.directory / "interrupted"
    command = toy.arguments(workdir)
    toy.trained  # noqa: B018 (compiles what the process needs)
    saves, first_steps = workdir / "checkpoints", []

    def content():
        return [(workdir / name).read_bytes() for name in ("config.json", "metrics.jsonl")]

    process = toy.process(command)
    stop_during(process, lambda: saved_steps(saves) and any(saves.glob("*.orbax-checkpoint-tmp*")))
    before = content()
    with contextlib.redirect_stderr(io.StringIO()) as error:
        status = main(command)
    refused = status, error.getvalue(), content() == before
    process.kill()
    process.communicate()
    unfinished = len(list(saves.glob("*.orbax-checkpoint-tmp*")))
    first_steps.append(saved_steps(saves)[-1])

    open_batches = loop.open_batches

    def terminating(run, first):
        for number, batch in enumerate(open_batches(run, first), first + 1):
            if number == first + 4:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as error:
        patch.setattr(loop, "open_batches", terminating)
        status = main(command)
    first_steps.append(saved_steps(saves)[-1])
    stopped = status, error.getvalue(), read_metrics(workdir)[-1]["step"]

    held = []

    def weighing(run, first):
        for batch in open_batches(run, first):
            gc.collect()
            held.append(sum(array.nbytes for array in jax.live_arrays()))
            yield batch

    gc.collect()
    gc.freeze()  # what is there already need not be looked at in every step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "open_batches", weighing)
        assert main(command) == 0
    gc.unfreeze()
    return Interrupted(workdir, refused, unfinished, first_steps, stopped, held)


def test_a_run_that_was_killed_and_stopped_ends_with_the_bits_of_one_that_was_not(interrupted, toy):
    assert interrupted.unfinished_saves == 1, "not killed inside a save"
    assert 0 < interrupted.first_steps[0] < interrupted.first_steps[1] < STEPS
    parts = open_training_run(toy.config())
    state, step = read_state(interrupted.workdir, parts)
    expected, _ = read_state(toy.trained, parts)
    assert step == state.step == STEPS
    assert_same(state, expected)
    assert sum(np.ptp(x) > 0 for x in jax.tree.leaves((state.opt, state.ema))) > 50
    assert read_metrics(interrupted.workdir) == read_metrics(toy.trained)
    assert [line["step"] for line in read_metrics(toy.trained)] == list(range(2, STEPS + 1, 2))
    names = {path.name for path in (interrupted.workdir / "checkpoints").iterdir()}
    assert all(name.isdecimal() for name in names), "something unfinished is left, or was taken for damage"


def test_a_run_writes_what_it_ran_with(toy):
    """The configuration with nothing left open, and the same in every checkpoint."""
    config = config_from_json((toy.trained / "config.json").read_text())
    assert config.model.latent == (2, 2, 8) and config.model.action_dim == 6
    manifest = next((toy.trained / "checkpoints").glob("[0-9]*/manifest/manifest.json"))
    metadata = json.loads(manifest.read_text())["metadata"]
    assert metadata["config"]["model"] == json.loads((toy.trained / "config.json").read_text())["model"]
    assert set(metadata["tokenizer"]) == {"name", "fingerprint"}
    names = {path.name for path in toy.trained.iterdir()}
    kept = {"config.json", "trained_on.json", "tokenizer.npz"}
    assert names - {".lock"} == kept | {"checkpoints", "metrics.jsonl", "tensorboard"}


def test_sigterm_saves_the_last_step_and_exits_130(interrupted):
    status, message, last_line = interrupted.stopped
    assert status == 130
    saved = interrupted.first_steps[-1]
    named = re.fullmatch(r"SIGTERM: .*\nstopped by SIGTERM after step (\d+), .*\n", message)
    assert named and int(named[1]) == saved, message
    assert saved - last_line in (0, 1), "a step was done that is not saved"


def test_a_step_leaves_no_arrays_behind(interrupted):
    _, _, *held = interrupted.held  # the first steps fill what is in flight
    assert len(held) > 5 and max(held[3:]) <= max(held[:3])


def test_a_second_process_on_a_work_directory_is_refused_and_changes_nothing(interrupted):
    status, message, alone = interrupted.refused
    assert status == 1 and alone
    assert re.fullmatch(r"error: .* is in use by process \d+ on .*\n", message), message


def test_samples_show_truth_above_prediction(toy, monkeypatch, tmp_path):
    """With negatives in place of predictions, because those of a model that hardly learned look like anything."""

    def negatives(run, params, clips, batch):
        return [1 - clip.frames[clip.context :] / np.float32(255) for clip in clips]

    parts = open_training_run(toy.config())
    monkeypatch.setattr(samples, "predict", negatives)
    with contextlib.closing(Writer(tmp_path)) as writer:
        writer.video(7, "samples", samples.sample_frames(parts, None), fps=4)
    frames = read_video(tmp_path / "samples" / "00000007.mp4").astype(int)
    assert len(frames) == SETTINGS["data.clip"]
    top, bottom = np.split(frames, 2, axis=1)
    context = int(0.6 * SETTINGS["data.clip"])
    assert np.abs(top - bottom)[:context].mean((1, 2, 3)).max() < 10 < np.ptp(top[0])
    assert np.abs(255 - top - bottom)[context:].mean((1, 2, 3)).max() < 10
    last = parts.episodes.read(3, 0, SETTINGS["data.clip"])["frames"]
    size = top.shape[1] // 16
    shown = top[:, size // 2 :: size, -16 * size + size // 2 :: size]
    assert np.abs(shown - last).mean() < 10


def test_four_devices_agree_with_one(toy):
    program = """
        import sys
        from pathlib import Path
        import numpy as np
        from rad_jax.training import sharding
        from rad_jax.config import ConfigError, load_config, override
        from rad_jax.training.loop import train
        sharding.REPLICATED_BELOW = 256
        path, workdir, *overrides = sys.argv[1:]
        config = load_config(path, overrides)
        try:
            train(override(config, {"train.batch": 10, "mesh.data": -1}), Path(workdir))
        except ConfigError as error:
            assert "train.batch=10" in str(error) and "(4)" in str(error), error
        else:
            raise AssertionError("10 clips on 4 devices")
        state = train(config, Path(workdir))
        kernel = state.params["block"]["spatial_attention"]["qkv"]["kernel"]
        assert [kernel.shape[2] // s.data.shape[2] for s in kernel.addressable_shards] == [2] * 4, kernel.sharding
        assert len(state.step.sharding.device_set) == 4
    """
    workdir = toy.directory / "four"
    changes = {"train.steps": SAVED, "train.sample_every": SAVED, "mesh.data": 2, "mesh.fsdp": 2}
    overrides = [f"{key}={value}" for key, value in toy.settings(changes).items()]
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4"
    arguments = [f"{EXPERIMENT}:lstm-f", workdir, *overrides]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "4 device(s)" in result.stdout
    parts = open_training_run(toy.config())
    state, step = read_state(workdir, parts)
    expected, _ = read_state(toy.trained, parts, step=SAVED)
    assert step == SAVED
    for name, value in named_leaves(expected).items():
        np.testing.assert_allclose(named_leaves(state)[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    for line, alone in zip(read_metrics(workdir), read_metrics(toy.trained), strict=False):
        assert line == pytest.approx(alone, rel=1e-5)
    assert np.std(read_video(workdir / "samples" / f"{SAVED:08d}.mp4")) > 1


@pytest.mark.parametrize("poisoned", [2, 8])
def test_a_loss_that_is_not_finite_stops_the_run_and_what_was_finite_stays(
    poisoned, toy, tmp_path, monkeypatch, capsys
):
    """Of step 8, 7 is neither logged nor saved, and 6 is; before step 2 nothing is saved, and there is nothing to export."""
    trained = toy.trained  # made before anything is poisoned
    batches, clips = loop.open_batches, []

    def with_poison(run, first_step):
        for number, batch in enumerate(batches(run, first_step), first_step + 1):
            if number == poisoned:
                batch["actions"][3, :, 0] = np.nan  # whatever windows are drawn
                clips[:] = batch["clip_id"].tolist()
            yield batch

    monkeypatch.setattr(loop, "open_batches", with_poison)
    capsys.readouterr()
    assert main(toy.arguments(tmp_path)) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: step {poisoned}: loss nan, grad_norm nan, ") and "not finite" in first
    assert second == f"clips (episode, first frame): {clips}"
    metrics = read_metrics(tmp_path) if poisoned > 2 else []
    if poisoned < SAVED:
        assert saved_steps(tmp_path / "checkpoints") == []
        assert main(toy.arguments(tmp_path, "--mode", "export")) == 2
        assert "no checkpoint" in capsys.readouterr().err and not (tmp_path / "export").exists()
        return
    parts = open_training_run(toy.config())
    assert_same(read_state(tmp_path, parts), read_state(trained, parts, step=SAVED))
    assert metrics[:3] == read_metrics(trained)[:3]
    assert [line["loss"] for line in metrics[3:]] in ([], [None])


def test_samples_that_cannot_be_written_are_a_warning_and_a_finished_run_can_be_extended(
    toy, tmp_path, caplog
):
    """And ``--profile`` writes a trace of its step."""
    (tmp_path / "samples").write_text("not a directory")
    short = {"train__steps": SAVED, "train__sample_every": SAVED // 2}
    assert main(toy.arguments(tmp_path, "--profile", "3", **short)) == 0
    warnings = [r.getMessage() for r in caplog.records if r.name.startswith("rad_jax")]
    assert len(warnings) == 1 and str(tmp_path / "samples") in warnings[0]
    parts = open_training_run(toy.config())
    assert_same(read_state(tmp_path, parts), read_state(toy.trained, parts, step=SAVED))
    assert read_metrics(tmp_path) == read_metrics(toy.trained)[: SAVED // 2]
    assert len(list(tmp_path.glob("profile/**/*.xplane.pb"))) == 1
    assert main(toy.arguments(tmp_path, "--profile", "3", **short)) == 2
    assert main(toy.arguments(tmp_path, train__steps=2 * SAVED)) == 0
    assert_same(read_state(tmp_path, parts), read_state(toy.trained, parts, step=2 * SAVED))


def test_what_a_step_does_not_depend_on_does_not_compile_it_again(toy):
    run = open_training_run(toy.config())
    mesh = sharding.make_mesh(run.config.mesh)

    def compiled(**changes):
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        return step.compile_step(run.model, override(run.config, changes), mesh)

    assert compiled(data__path="elsewhere", sample__steps=7, train__sample_every=3) is compiled()
    others = {"seed": 1}, {"train__steps": 7}, {"optimizer__warmup": 1}, {"diffusion__levels": 7}
    for changes in others:
        assert compiled(**changes) is not compiled(), changes


def test_a_step_is_traced_once_and_saved_before_its_sample_is_drawn(toy, tmp_path, monkeypatch):
    """A step that was traced again, at its second call or after a resume, would be compiled again."""
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(step.train_step, n=1)

    def train_step(model, config, encoder, state, batch):
        new, metrics = traced(model, config, encoder, state, batch)
        return new, metrics

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(step, "train_step", train_step)
    monkeypatch.setattr(step, "_compile_step", step._compile_step.__wrapped__)  # keeps nothing
    monkeypatch.setattr(loop, "sample_frames", fail)
    assert main(toy.arguments(tmp_path, train__sample_every=SAVED)) == 1
    assert read_state(tmp_path, open_training_run(toy.config()))[1] == SAVED


@pytest.mark.parametrize(
    ("key", "value", "old"),
    [
        ("train.batch", 16, 8),
        ("optimizer.learning_rate", 1.0, 2e-3),
        ("memory.gates", "standard", "slots"),
        ("memory.kind", "none", "lstm"),
        ("train.ema", 0.5, 0.9),
        ("seed", 5, 0),
    ],
)
def test_continuing_with_another_value_is_refused_by_name(key, value, old, toy, capsys):
    before = (toy.trained / "config.json").read_bytes()
    assert main(toy.arguments(toy.trained, **{key.replace(".", "__"): value})) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert f"error: {key}={value}: {toy.trained} holds a run with {old};" in error
    assert (toy.trained / "config.json").read_bytes() == before


def test_what_no_number_depends_on_may_change(toy, capsys):
    """And a finished run says that it is, and how it goes on."""
    free = {
        "data.threads": 1,
        "data.max_damaged": 5,
        "checkpoint.keep": 1,
        "evaluate.fps": 9,
        "sample.steps": 3,
        "data.make": "true",
        "train.accumulate": 2,
        "model.remat": False,
        "memory.prefetch_segment": 4,
    }
    arguments = toy.arguments(toy.trained, **{key.replace(".", "__"): value for key, value in free.items()})
    before = read_state(toy.trained, open_training_run(toy.config()))
    capsys.readouterr()
    assert main(arguments) == 0
    extend = f"extend it with --config.train.steps={2 * STEPS}"
    assert f"{toy.trained}: the run is finished at step {STEPS}; {extend}" in capsys.readouterr().out
    assert_same(read_state(toy.trained, open_training_run(toy.config())), before)
    config = config_from_json((toy.trained / "config.json").read_text())
    assert (config.data.threads, config.evaluate.fps, config.sample.steps) == (1, 9, 3)
    assert main(toy.arguments(toy.trained)) == 0


def test_a_random_base_is_not_frozen(toy, tmp_path):
    with pytest.raises(ConfigError, match=r"train.freeze=base: .* train.init_from"):
        loop.train(toy.config(changes={"train.freeze": "base"}), tmp_path / "run")


def test_a_clip_longer_than_an_episode_is_refused(toy, tmp_path):
    with pytest.raises(DataError, match="shorten the clip"):
        loop.train(toy.config(changes={"data.clip": 30}), tmp_path / "run")


def test_changed_keys_are_counted(toy, tmp_path):
    (tmp_path / "config.json").write_text(open_training_run(toy.config()).config.to_json())
    other = open_training_run(toy.config(changes={"train.windows": 3, "seed": 1})).config
    message = r"seed=1: .* holds a run with 0 \(and 1 more\); choose another --workdir"
    with pytest.raises(ConfigError, match=message):
        stored_config.check_same_run(other, tmp_path)
