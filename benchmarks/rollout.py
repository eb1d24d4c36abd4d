"""Cached generation against the full window at every sampler step: time per frame and largest difference.

python -m benchmarks.rollout [--steps 50] [--frames 40] [--width 256 --depth 2 --latent 24 24 4] [--reading shared]
"""

import argparse

import jax
import jax.numpy as jnp

from benchmarks import timing
from rad_jax import diffusion, rollout
from rad_jax.config import DiffusionConfig, MemoryConfig, ModelConfig
from rad_jax.model import RAD


def full_window_rollout(model, config, steps, params, frames, actions, future, key):
    """Generation written out: the whole window at every sampler step, for a context that fills all but one slot."""
    variables = {"params": params}
    batch, window, stride = frames.shape[0], model.config.window, model.config.memory.stride
    if stride != 1:
        raise ValueError(f"stride {stride}: the plain loop here slides by one frame")
    levels = jnp.asarray(diffusion.sampler_levels(config, steps))
    clean = jnp.full((batch, window), model.config.context_level)

    def generate(carry, inputs):
        memory, context, context_actions = carry
        index, action = inputs
        window_actions = jnp.concatenate([context_actions, action[:, None]], axis=1)

        def denoise(frame, pair):
            level, next_level = pair
            noised = jnp.concatenate([context, frame[:, None]], axis=1)
            prediction, _ = model.apply(variables, noised, clean.at[:, -1].set(level), window_actions, memory)
            return diffusion.ddim_step(config, frame, prediction[:, -1], level, next_level), None

        noise = jax.random.normal(jax.random.fold_in(key, index), (batch, *frames.shape[2:]))
        frame, _ = jax.lax.scan(denoise, noise, (levels[:-1], levels[1:]))
        whole = jnp.concatenate([context, frame[:, None]], axis=1)
        _, memory = model.apply(variables, whole, clean, window_actions, memory)
        return (memory, whole[:, 1:], window_actions[:, 1:]), frame

    carry = (model.initial_memory(batch), frames, actions)
    _, generated = jax.lax.scan(generate, carry, (jnp.arange(future.shape[1]), jnp.moveaxis(future, 1, 0)))
    return jnp.moveaxis(generated, 0, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--latent", type=int, nargs=3, default=(24, 24, 4))
    parser.add_argument("--reading", choices=("shared", "rollout"), default="shared")
    options = timing.options(
        __doc__, parser, steps=50, frames=40, width=256, depth=2, window=20, timed_frames=2
    )
    memory = MemoryConfig(kind="lstm", window=options.reading)
    model = RAD(
        ModelConfig(
            latent=tuple(options.latent), action_dim=6, width=options.width, depth=options.depth, heads=4,
            window=options.window, dtype="float32", remat=False, memory=memory,
        )
    )  # fmt: skip
    config = DiffusionConfig()
    key = jax.random.key(0)
    length = options.window - 1
    frames = jax.random.normal(key, (1, length, *options.latent))
    actions = jax.random.normal(key, (1, length + options.frames, 6))
    params = jax.jit(model.init)(key, frames, jnp.zeros((1, length), int), actions[:, :length])["params"]
    # A fresh model predicts zero whatever it reads: move every parameter so that all paths count.
    params = jax.tree.map(lambda p: p + 0.02 * jax.random.normal(key, p.shape), params)

    def cached(future):
        state = rollout.start(
            model, params, frames, actions[:, :length], diffusion=config, steps=options.steps
        )
        return rollout.generate(state, future, key)[1]

    plain = jax.jit(
        lambda future: full_window_rollout(
            model, config, options.steps, params, frames, actions[:, :length], future, key
        )
    )
    short = actions[:, length : length + options.timed_frames]
    state = rollout.start(model, params, frames, actions[:, :length], diffusion=config, steps=options.steps)
    fast = timing.seconds(rollout.generate, state, short, key) / options.timed_frames
    slow = timing.seconds(plain, short, repeats=1) / options.timed_frames
    print(
        f"per frame: cached {1000 * fast:.1f} ms, full window {1000 * slow:.1f} ms: {slow / fast:.1f} times"
    )
    future = actions[:, length:]
    a, b = cached(future), plain(future)
    print(
        f"largest difference over {options.frames} frames: {jnp.abs(a - b).max():.2e} (largest value {jnp.abs(b).max():.2f})"
    )


if __name__ == "__main__":
    main()
