"""A run's parts fit each other, or the error says what does not."""

import shutil

import numpy as np
import pytest

from rad_jax.config import ConfigError
from rad_jax.data import DataError
from rad_jax.runs.training_run import open_training_run
from rad_jax.tokenizer import TokenizerError, patch_pca


def test_what_the_configuration_leaves_open_comes_from_the_data(toy):
    config, episodes, tokenizer, model, odometry = open_training_run(toy.config())
    assert odometry is None
    assert (config.model.latent, config.model.action_dim) == ((2, 2, 8), len(episodes.spec.info["actions"]))
    assert model.config == config.model
    assert len(episodes) == 8 and tokenizer.fingerprint == episodes.tokenizer["fingerprint"]
    with_pose = open_training_run(
        toy.config(changes={"data.condition": "action+pose", "data.heading_harmonics": 3})
    )
    assert with_pose.config.model.action_dim == config.model.action_dim + 2 + 2 * 3
    given = {"model.latent": (2, 2, 8), "model.action_dim": config.model.action_dim}
    assert open_training_run(toy.config(changes=given)).config == config


@pytest.mark.parametrize(
    ("key", "value", "found"), [("model.latent", (4, 4, 8), r"\(2, 2, 8\)"), ("model.action_dim", 3, "6")]
)
def test_what_is_given_has_to_fit_the_data(key, value, found, toy):
    with pytest.raises(ConfigError, match=rf"{key}=.*{found}; leave it open with {key}=none") as info:
        open_training_run(toy.config(changes={key: value}))
    assert "\n" not in str(info.value)


def test_another_tokenizer_than_the_recorded_one_is_refused(toy, tmp_path):
    other = patch_pca.fit(np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), np.uint8), 8, 8)
    other.save(tmp_path / "other.npz")
    with pytest.raises(TokenizerError, match="another tokenizer patch_pca") as info:
        open_training_run(toy.config(changes={"tokenizer.path": str(tmp_path / "other.npz")}))
    assert len(str(info.value).splitlines()) <= 2
    shutil.copy(toy.rooms / "tokenizer.npz", tmp_path / "same.npz")
    open_training_run(toy.config(changes={"tokenizer.path": str(tmp_path / "same.npz")}))


@pytest.mark.parametrize("key", ["tokenizer.path", "tokenizer.preview"])
def test_a_file_that_is_missing_is_found_before_data_are_made(key, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = {"data.path": str(tmp_path / "none"), "data.make": "touch made", "data.auto_make": True}
    with pytest.raises((ConfigError, TokenizerError), match=r"missing\.npz"):
        open_training_run(toy.config(changes=made | {key: "missing.npz"}))
    assert list(tmp_path.iterdir()) == []


def test_missing_data_are_named_with_the_command_that_makes_them(toy, tmp_path):
    config = toy.config(changes={"data.path": str(tmp_path / "none")})
    with pytest.raises(DataError) as info:
        open_training_run(config)
    problem, command = str(info.value).splitlines()
    assert str(tmp_path / "none") in problem
    assert command == f"make it with: {config.data.command}" and str(tmp_path / "none") in command
