"""The configuration of a work directory: read without its commands, and compared with the one that goes on."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import pytest

from rad_jax.config import Config, ConfigError, flatten, override
from rad_jax.config.load import KEYS
from rad_jax.main import main
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.stored_config import (
    check_same_run,
    find_config,
    idle_keys,
    read_config,
    refuse_changes,
    without_commands,
)
from rad_jax.runs.trained_on import TrainedOn
from rad_jax.runs.training_run import open_training_run
from rad_jax.tokenizer import patch_pca
from tests.runs.test_trained_on import change_info
from tests.toy_run import STEPS, random_state


def test_every_command_is_dropped(toy):
    """Also one that is added later: a key of a command says so."""
    commands = {path for path, declared in KEYS.items() if "command" in declared.help}
    assert commands == {
        "data.make",
        "data.auto_make",
        "evaluate.make",
        "evaluate.auto_make",
        "evaluate.more_make",
    }
    values = {path: True if path.endswith("auto_make") else "touch it" for path in commands}
    config = toy.config(changes=values)
    found = flatten(without_commands(config))
    assert {path: found[path] for path in commands} == {path: flatten(Config())[path] for path in commands}
    assert {path: value for path, value in found.items() if path not in commands} == {
        path: value for path, value in flatten(config).items() if path not in commands
    }


@pytest.mark.parametrize("text", ["", "[]", "[" * 90_000, "{", '{"model": {"wide": 3}}', b"\xff\xfe"])
def test_a_damaged_configuration_is_one_line(text, tmp_path):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError) as info:
        read_config(tmp_path)
    assert str(tmp_path / "config.json") in str(info.value) and len(str(info.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("decay", "words"),
    [("constant", f"--config.train.steps={2 * STEPS}"), ("cosine", "--config.train.init_from=")],
)
def test_a_finished_run_says_in_one_line_how_to_go_on(decay, words, toy, tmp_path, capsys):
    workdir = shutil.copytree(toy.written(), tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    config["optimizer"]["decay"] = decay
    (workdir / "config.json").write_text(json.dumps(config))
    assert main(toy.arguments(workdir, optimizer__decay=decay)) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert str(workdir) in line and f"finished at step {STEPS}" in line and words in line


def test_a_source_is_the_same_by_its_place_and_not_by_its_text(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, workdir = run(6, train__init_from=str(tmp_path / "base"))
    check_same_run(override(config, {"train.init_from": "base"}), workdir)
    check_same_run(override(config, {"train.init_from": "./other/../base"}), workdir)
    for other in ("other", ""):
        with pytest.raises(ConfigError, match=f"train.init_from={other}"):
            check_same_run(override(config, {"train.init_from": other}), workdir)


@pytest.fixture
def run(toy, tmp_path):
    """Writes a work directory with the configuration of a run and a checkpoint of a step, of which only the name matters."""
    training = open_training_run(toy.config())

    def write(step, **changes):
        config = open_training_run(
            toy.config(changes={k.replace("__", "."): v for k, v in changes.items()})
        ).config
        workdir = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        (workdir / "checkpoints" / str(step)).mkdir(parents=True)
        (workdir / "config.json").write_text(config.to_json())
        TrainedOn.of(training).keep(workdir)
        return config, workdir

    return write


@pytest.mark.parametrize(
    ("decay", "start", "step", "allowed"),
    [
        ("constant", 0.0, 24, True),
        ("linear", 0.5, 13, True),  # its last step has the index 12, at which the decay is still nothing
        ("linear", 0.5, 14, False),
        ("cosine", 0.5, 24, False),
        ("cosine", 0.0, 5, True),  # a decay begins after the warm-up of 4 steps
        ("cosine", 0.0, 6, False),
    ],
)
def test_a_run_is_extended_if_no_step_would_have_had_another_learning_rate(decay, start, step, allowed, run):
    from rad_jax.training.optimizer import learning_rate

    config, workdir = run(step, optimizer__decay=decay, optimizer__decay_start=start)
    extended = override(config, {"train.steps": 48})
    rates = [[learning_rate(one.optimizer, one.train, i) for i in range(step)] for one in (config, extended)]
    assert (rates[0] == rates[1]) == allowed
    if allowed:
        return check_same_run(extended, workdir)
    with pytest.raises(ConfigError) as info:
        check_same_run(extended, workdir)
    line = str(info.value)
    facts = "train.steps=48", f"optimizer.decay={decay}", f"since step {max(4, 24 * start):g} "
    assert all(fact in line for fact in facts) and len(line.splitlines()) == 1


def test_a_run_is_not_shortened_and_no_other_key_is_freed_by_an_extension(run):
    config, workdir = run(6)
    with pytest.raises(ConfigError, match=f"train.steps=12: .* {STEPS}"):
        check_same_run(override(config, {"train.steps": 12}), workdir)
    with pytest.raises(ConfigError, match="seed=1"):
        check_same_run(override(config, {"train.steps": 48, "seed": 1}), workdir)


def test_data_and_tokenizer_that_have_moved_do_not_end_a_run(toy, tmp_path):
    workdir = shutil.copytree(toy.written(), tmp_path / "run")
    moved = shutil.copytree(toy.rooms, tmp_path / "moved")
    file = shutil.move(moved / "tokenizer.npz", tmp_path / "moved.npz")
    assert main(toy.arguments(workdir, data__path=moved, tokenizer__path=file)) == 0
    assert read_config(workdir).data.path == str(moved)
    assert json.loads((workdir / "trained_on.json").read_text())["file"] == "tokenizer.npz"


def test_other_data_at_the_same_path_are_refused(toy, tmp_path, capsys):
    workdir = shutil.copytree(toy.written(), tmp_path / "run")
    moved = shutil.copytree(toy.rooms, tmp_path / "moved")
    before = {
        name: (workdir / name).read_bytes() for name in ("config.json", "trained_on.json", "tokenizer.npz")
    }
    change_info(moved, "train", pose_scale=[1.0, 1.0, 1.0, 1.0])
    assert main(toy.arguments(workdir, data__path=moved)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"data.path={moved}" in line and "other episodes" in line
    assert {name: (workdir / name).read_bytes() for name in before} == before


def test_another_tokenizer_at_the_same_path_is_refused(toy, tmp_path, run):
    config, workdir = run(6)
    training = open_training_run(toy.config())
    frames = training.episodes.read(0)["frames"]
    other = patch_pca.fit(frames, 8, 8)
    assert other.fingerprint != training.tokenizer.fingerprint
    facts = TrainedOn.of(training._replace(tokenizer=other))
    with pytest.raises(ConfigError, match=r"tokenizer .* latents of another tokenizer"):
        check_same_run(config, workdir, facts)


def test_a_run_that_has_lost_its_configuration_is_not_continued_by_another(toy, tmp_path):
    """That of its newest checkpoint is compared, without its commands; which one that is does not depend on its digits."""
    workdir, parts = shutil.copytree(toy.written(), tmp_path / "run"), open_training_run(toy.config())
    with Checkpoints(workdir / "checkpoints", parts.config.checkpoint) as checkpoints:
        values = override(parts.config, {"data.make": "touch it"}).to_dict()
        checkpoints.save(STEPS + 1, random_state(parts), {"config": values})
    for file in ("config.json", "trained_on.json"):
        (workdir / file).unlink()
        check_same_run(parts.config, workdir)
        assert find_config(workdir) == without_commands(parts.config)
        for key, value in (("seed", 1), ("diffusion.schedule", "linear"), ("optimizer.learning_rate", 0.5)):
            with pytest.raises(ConfigError, match=f"{key}={value}"):
                check_same_run(override(parts.config, {key: value}), workdir)


@pytest.mark.parametrize("stored", [3, [], {"model": {"wide": 3}}])
def test_a_configuration_in_a_manifest_that_is_none_is_one_line(stored, toy, tmp_path):
    parts = open_training_run(toy.config())
    with Checkpoints(tmp_path / "checkpoints", parts.config.checkpoint) as checkpoints:
        checkpoints.save(1, {"params": {"a": jnp.zeros(2)}}, {"config": stored})
    with pytest.raises(ConfigError, match=r"checkpoints/1/manifest/manifest\.json") as info:
        check_same_run(parts.config, tmp_path)
    assert len(str(info.value).splitlines()) == 1


def test_a_run_of_an_earlier_version_is_compared_by_its_paths(toy, tmp_path, run):
    config, workdir = run(6)
    (workdir / "trained_on.json").unlink()
    facts = TrainedOn.of(open_training_run(toy.config()))
    check_same_run(config, workdir, facts)
    with pytest.raises(ConfigError, match=r"data\.path=elsewhere"):
        check_same_run(override(config, {"data.path": "elsewhere"}), workdir, facts)


def test_keys_of_another_memory_may_differ(toy):
    """So that a run goes on where a later version of its experiment sets more keys."""
    lstm = override(toy.config(), {"memory.kind": "lstm", "memory.frames": "clean"})
    idle = idle_keys(lstm)
    assert {"memory.capacity", "memory.rule", "memory.inner_rate", "memory.noised_levels"} < idle
    assert {"memory.resample_levels", "memory.resample_clean", "memory.view_angle"} < idle
    assert not idle & {
        "memory.kind",
        "memory.frames",
        "memory.hidden",
        "memory.gates",
        "memory.stride",
        "memory.window",
    }
    assert {"memory.radius", "memory.position_weight"} < idle
    revisited = {"data.condition": "action+pose", "train.revisit": 0.5}
    assert not {"memory.radius", "memory.position_weight"} & idle_keys(override(lstm, revisited))
    assert "memory.position_weight" not in idle_keys(override(lstm, {"memory.kind": "arl2"}))
    bank = override(lstm, {"memory.kind": "bank", "memory.window": "shared", "memory.stride": 1})
    assert {"memory.hidden", "memory.rule"} < idle_keys(bank) and "memory.capacity" not in idle_keys(bank)
    own = override(lstm, {"memory.kind": "my_memories.ema:EMA"})  # which may read any key
    assert not idle_keys(own) & {
        "memory.heads",
        "memory.hidden",
        "memory.rule",
        "memory.capacity",
        "memory.own",
    }
    noised = override(lstm, {"memory.frames": "noised"})
    assert "memory.noised_levels" not in idle_keys(noised)
    refuse_changes(override(lstm, {"memory.capacity": 7}), lstm, Path("run"))
    with pytest.raises(ConfigError, match=r"memory\.capacity=7"):
        refuse_changes(override(bank, {"memory.capacity": 7}), bank, Path("run"))
