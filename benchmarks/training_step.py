"""Prefetch against the literal loop: time of a training step, and how its memory grows with the clip.

    python -m benchmarks.training_step [--frames 200] [--windows 8] [--width 128 --depth 4 --latent 8 8 4]

The literal loop slides the window over the clip frame by frame, computes the loss of every window, and takes the memory from
each slide; its gradient flows through all of them. Both are one compiled program, rematerialised step by step.
"""

import argparse

import jax
import jax.numpy as jnp

from benchmarks import timing
from rad_jax import diffusion
from rad_jax.config import DiffusionConfig, MemoryConfig, ModelConfig, TrainConfig
from rad_jax.model import RAD
from rad_jax.training import objective


def literal_loss(model, config, params, frames, actions, levels, noise):
    """The loss of all windows of a clip, window by window: levels (b, t-w+1, w), noise (b, t-w+1, w, ...)."""
    window, batch = model.config.window, frames.shape[0]
    context = jnp.full((batch, 1), model.config.context_level)

    @jax.checkpoint
    def slide(memory, inputs):
        start, level, eps = inputs
        clean, action = (jax.lax.dynamic_slice_in_dim(x, start, window, 1) for x in (frames, actions))
        noised = diffusion.add_noise(config, clean, eps, level)
        prediction, _ = model.apply({"params": params}, noised, level, action, memory)
        error = jnp.square(prediction - diffusion.target(config, clean, eps, level)).mean((-3, -2, -1))
        _, memory = model.apply({"params": params}, clean[:, :1], context, action[:, :1], memory)
        return memory, (diffusion.loss_weight(config, level) * error).mean()

    starts = jnp.arange(frames.shape[1] - window + 1)
    inputs = (starts, jnp.moveaxis(levels, 1, 0), jnp.moveaxis(noise, 1, 0))
    _, losses = jax.lax.scan(slide, model.initial_memory(batch), inputs)
    return losses.mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--latent", type=int, nargs=3, default=(8, 8, 4))
    parser.add_argument("--memory-only", action="store_true", help="compile, but run nothing")
    options = timing.options(
        __doc__, parser, frames=200, windows=8, batch=1, width=128, depth=4, window=20, segment=20
    )
    memory = MemoryConfig(kind="lstm", prefetch_segment=options.segment)
    model = RAD(
        ModelConfig(
            latent=tuple(options.latent), action_dim=6, width=options.width, depth=options.depth, heads=4,
            window=options.window, dtype="float32", remat=True, memory=memory,
        )
    )  # fmt: skip
    config, train = DiffusionConfig(), TrainConfig(windows=options.windows)
    key = jax.random.key(0)

    def clip(length):
        frames = jax.random.normal(key, (options.batch, length, *options.latent))
        return frames, jax.random.normal(key, (options.batch, length, 6))

    frames, actions = clip(options.frames)
    params = jax.jit(model.init)(key, frames[:, :1], jnp.zeros((options.batch, 1), int), actions[:, :1])[
        "params"
    ]

    def prefetched(params, frames, actions):
        draw = objective.step_randomness(model, config, train, key, frames)
        return objective.loss(model, config, train, params, frames, actions, draw)[0]

    def literal(params, frames, actions):
        count = frames.shape[1] - options.window + 1
        shape = (options.batch, count, options.window)
        levels = jax.random.randint(key, shape, 0, config.levels)
        noise = jax.random.normal(key, (*shape, *options.latent))
        return literal_loss(model, config, params, frames, actions, levels, noise)

    sizes = {}
    for length in (100, 200, 400):
        step = timing.compiled(jax.grad(prefetched), params, *clip(length))
        sizes[length] = step.memory_analysis().temp_size_in_bytes
        print(f"temporary memory at {length} frames: {sizes[length] / 2**20:.1f} MiB")
    print(f"400 frames against 100: {sizes[400] / sizes[100]:.2f} times")
    if options.memory_only:
        return
    fast = timing.seconds(
        timing.compiled(jax.grad(prefetched), params, frames, actions), params, frames, actions
    )
    slow = timing.seconds(
        timing.compiled(jax.grad(literal), params, frames, actions), params, frames, actions, repeats=1
    )
    print(
        f"step over {options.frames} frames: prefetched {fast:.3f} s, window by window {slow:.3f} s: {slow / fast:.1f} times"
    )


if __name__ == "__main__":
    main()
