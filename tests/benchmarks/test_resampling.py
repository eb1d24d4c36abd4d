"""The table from which `memory.resample_levels` is chosen, on the run that tests share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import resampling
from rad_jax import diffusion, rollout
from rad_jax.data import Episodes
from rad_jax.rollout.predict import read_clip
from rad_jax.runs.restore import load_trained

LEVELS = [0, 50, 99]


@pytest.fixture(scope="module")
def measured(toy):
    trained = load_trained(toy.trained)
    episodes = Episodes(toy.mazes, "test")
    clips = [read_clip(episodes, index, trained.config, trained.tokenizer) for index in range(2)]
    return trained, clips, resampling.measure(trained, clips, LEVELS)


def test_residuals_of_a_rollout_are_those_of_each_clip_by_itself(measured):
    trained, clips, found = measured
    config = trained.config
    residuals = []
    for index, clip in enumerate(clips):
        latents = clip.encoded(trained.tokenizer)[None]
        first, later = np.split(clip.actions[None], [clip.context], axis=1)
        state = rollout.start(
            trained.model, trained.params, latents[:, : clip.context], jnp.asarray(first),
            diffusion=config.diffusion, steps=config.sample.steps,
        )  # fmt: skip
        purpose = jax.random.fold_in(jax.random.key(config.seed), resampling.CALIBRATION)
        key = jax.random.fold_in(purpose, index)
        _, frames = rollout.generate(state, jnp.asarray(later), key)
        residuals.append(np.asarray(frames - latents[:, clip.context :])[0])
    assert set(found.frames) == {1, 4, 16}  # W = 4
    for number, value in found.frames.items():
        wanted = np.sqrt(np.mean([np.square(residual[number - 1]) for residual in residuals]))
        assert value == pytest.approx(wanted, rel=1e-4)


def test_one_step_from_hardly_any_noise_is_hardly_wrong(measured):
    """At the lowest level v turns to clean latents with the factor of the noise; at the highest nothing is known."""
    trained, _, found = measured
    assert list(found.levels) == LEVELS
    assert found.levels[0] < found.levels[50] < found.levels[99]
    noise = np.sqrt(1 - diffusion.alpha_bar(trained.config.diffusion)[0])
    assert found.levels[0] < 3 * noise
    assert 0.3 * found.scale < found.levels[99] < 3 * found.scale


def test_levels_around_a_value():
    found = resampling.Residuals(
        {1: 0.2, 4: 0.3, 16: 0.5}, {0: 0.1, 10: 0.25, 20: 0.4, 30: 0.35, 40: 0.6}, 1.0
    )
    assert found.around(0.3) == (10, 20)
    assert found.around(0.38) == (10, 40)  # not monotonic there
    assert found.around(0.05) == (None, 0)
    assert found.around(0.7) == (40, None)
    text = resampling.table(found, 4)
    assert "generated frame 4 lies between those of levels 10 and 20" in text
    assert "frames 1, 4, 16 lie between those of levels 0 and 40" in text
    assert "frame 1 lies below that of level 0" in resampling.table(found._replace(frames={1: 0.05}), 4)
    none = resampling.table(found._replace(frames={1: 0.7}), 4)
    assert "frame 1 lies above those of all levels, of which level 40 is the first" in none


def test_the_command_prints_it(toy, capsys):
    resampling.main(["--workdir", str(toy.trained), "--clips", "1", "--points", "3"])
    text = capsys.readouterr().out
    assert "generated frame 16" in text and "level 99" in text and "the RMS of generated frame 4 lies" in text
