"""Mamba2 in segments against one frame at a time: time of a run, and of a run with its gradient.

    python -m benchmarks.mamba2 [--frames 400] [--rows 32] [--width 128] [--segments 4 8 16 32 64]

Both are the mixer with the same weights, compiled; the second one is a scan of ``run`` over single frames.
"""

import argparse

import jax
import jax.numpy as jnp

from benchmarks import timing
from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.model import mixers


def mixer(width, segment):
    memory = MemoryConfig(kind="mamba2", mixer_segment=segment)
    return mixers.build(ModelConfig(latent=(2, 2, 4), width=width, heads=4, dtype="float32", memory=memory))


def at_once(mixer, variables, state, x):
    return mixer.apply(variables, state, x, method="run")


def frame_by_frame(mixer, variables, state, x):
    def step(state, frame):
        state, y = mixer.apply(variables, state, frame[:, None], method="run")
        return state, y[:, 0]

    state, y = jax.lax.scan(step, state, jnp.moveaxis(x, 1, 0))
    return state, jnp.moveaxis(y, 0, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--segments", type=int, nargs="+", default=(4, 8, 16, 32, 64))
    options = timing.options(__doc__, parser, frames=400, rows=32, width=128)
    single = mixer(options.width, 1)
    x = jax.random.normal(jax.random.key(0), (1, options.frames, options.rows, options.width))
    state = single.initial_state(1, options.rows)
    variables = jax.jit(lambda key: single.init(key, state, x[:, :1], method="run"))(jax.random.key(1))

    def measure(run, mixer):
        def loss(variables, state, x):
            (_, s), y = run(mixer, variables, state, x)
            return jnp.square(y).mean() + jnp.square(s).mean()

        forward = timing.compiled(lambda *inputs: run(mixer, *inputs), variables, state, x)
        backward = timing.compiled(jax.grad(loss, (0, 1, 2)), variables, state, x)
        size = backward.memory_analysis().temp_size_in_bytes
        both = [timing.seconds(function, variables, state, x, repeats=5) for function in (forward, backward)]
        return forward(variables, state, x)[1], *both, size

    plain, slow_forward, slow_backward, size = measure(frame_by_frame, single)
    print(
        f"frame by frame: forward {1e3 * slow_forward:.0f} ms, with gradient {1e3 * slow_backward:.0f} ms, "
        f"temporary memory {size / 2**20:.0f} MiB"
    )
    for segment in options.segments:
        y, forward, backward, size = measure(at_once, mixer(options.width, segment))
        print(
            f"segments of {segment}: forward {1e3 * forward:.0f} ms ({slow_forward / forward:.1f} times faster), "
            f"with gradient {1e3 * backward:.0f} ms ({slow_backward / backward:.1f}), "
            f"temporary memory {size / 2**20:.0f} MiB, largest difference {jnp.abs(y - plain).max():.1e}"
        )


if __name__ == "__main__":
    main()
