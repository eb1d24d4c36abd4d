"""The programs of a training step and of a rollout, of every memory: what they must not call, and what a profile names."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from rad_jax import rollout
from rad_jax.config import NAMES, config_from_dict
from rad_jax.model import RAD
from rad_jax.rollout import stream
from rad_jax.training.step import init_state, train_step
from tests.toy_model import SETTINGS

KINDS = [kind for kind in NAMES if kind != "atlas"]  # whose programs are the bank's


@functools.cache
def programs(kind: str) -> dict[str, str]:
    """The lowered texts of a training step and of a step of a rollout, with the names of their operations."""
    posed = {"data.condition": "action+pose", "model.pose": (1, 1)}  # which some memories cannot do without
    config = config_from_dict({**SETTINGS, **posed, "memory.kind": kind})
    model, (rows, cols, ch) = RAD(config.model), config.model.latent
    state = jax.eval_shape(functools.partial(init_state, model, config))
    batch = {
        "latents": jax.ShapeDtypeStruct((2, 8, rows, cols, ch), jnp.float16),
        "actions": jax.ShapeDtypeStruct((2, 8, 3), jnp.float32),
    }
    train = jax.jit(functools.partial(train_step, model, config)).lower(None, state, batch)
    walk = jax.eval_shape(
        lambda params, frames, actions: rollout.start(
            model, params, frames, actions, diffusion=config.diffusion, steps=2
        ),
        state.params,
        jax.ShapeDtypeStruct((1, 6, rows, cols, ch), jnp.float32),
        jax.ShapeDtypeStruct((1, 6, 3), jnp.float32),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    action = jax.ShapeDtypeStruct((1, 3), jnp.float32)
    step = stream._step.lower(walk.replace(window=None), walk.window, action, key)
    return {name: low.as_text(debug_info=True) for name, low in (("train", train), ("rollout", step))}


@pytest.mark.parametrize("kind", KINDS)
def test_no_program_calls_lapack(kind):
    """On a CPU its calls wait for threads of the pool that they run in: two at once wait for each other, for ever."""
    for name, text in programs(kind).items():
        assert len(text) > 10_000
        calls = set(re.findall(r"custom_call @(\w+)", text))
        assert not [call for call in calls if "lapack" in call.lower()], (name, calls)


PARTS = ("spatial_attention", "spatial_mlp", "temporal_attention", "temporal_mlp")
SCOPES = {
    "train": ("objective/prefetch", "objective/windows", "optimizer", "ema", "finite"),
    "rollout": ("sampler", "append", "slide"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_profile_names_the_parts_of_a_step(kind):
    for program, text in programs(kind).items():
        # jvp(x) and transpose(jvp(x)) are forward and backward of scope x. Names with brackets are arguments, and what a line
        # number follows is a file.
        names = [re.sub(r"\w+\(|\)", "", name) for name in re.findall(r'loc\("([^"\[]+)"[()]', text)]
        found = {
            scope for scope in (*SCOPES[program], *PARTS, "mixer") if any(scope in name for name in names)
        }
        absent = {"mixer", "objective/prefetch"} if kind == "none" else set()
        assert found == {*SCOPES[program], *PARTS, "mixer"} - absent
