"""Memory of one TTT layer with its gradient: segments of the backward pass against keeping the weights of every frame.

    python -m benchmarks.ttt [--frames 80] [--batch 3 --latent 18 32 16 --width 1024 --heads 16] [--mini-batch 1] [--stops 8]

The defaults are those of the paper for Minecraft. Everything is compiled from shapes and nothing runs, so that this needs
little more memory than the program; the sizes are XLA's own for the device it compiles for.
"""

import argparse
import functools

import jax
import jax.numpy as jnp

from benchmarks import timing
from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.model import mixers


def sizes(options, segment):
    """Bytes of the state, of the kept states, and temporary ones of a backward pass in segments of ``segment`` frames."""
    memory = MemoryConfig(kind="ttt", mini_batch=options.mini_batch, mixer_segment=segment)
    config = ModelConfig(
        latent=tuple(options.latent), width=options.width, heads=options.heads, memory=memory
    )
    mixer = mixers.build(config)
    shape = (options.batch, options.frames, config.tokens, config.width)
    x = jax.ShapeDtypeStruct(shape, config.compute_dtype)
    stops = jax.ShapeDtypeStruct((options.batch, options.stops), jnp.int32)
    state = jax.eval_shape(functools.partial(mixer.initial_state, options.batch, config.tokens))
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(functools.partial(mixer.init, method="run"), key, state, x)

    def run(variables, state, x, stops):
        return mixer.apply(variables, state, x, stops, method="run_with_states")

    def backward(variables, state, x, stops, cotangent):
        _, pull = jax.vjp(lambda *inputs: run(*inputs, stops), variables, state, x)
        return pull(cotangent)

    results = jax.eval_shape(run, variables, state, x, stops)
    program = jax.jit(backward).lower(variables, state, x, stops, results).compile()
    bytes_of = [
        sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(t)) for t in (state, results[2])
    ]
    return *bytes_of, program.memory_analysis().temp_size_in_bytes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--latent", type=int, nargs=3, default=(18, 32, 16))
    options = timing.options(__doc__, parser, frames=80, batch=3, width=1024, heads=16, mini_batch=1, stops=8)
    temporary = {}
    for segment in (8, 16, options.frames):
        state, kept, temporary[segment] = sizes(options, segment)
        if len(temporary) == 1:
            print(f"a state {state / 1e9:.3f} GB, kept states {kept / 1e9:.2f} GB")
        print(f"segments of {segment} frames: {temporary[segment] / 1e9:.2f} GB")
    print(f"one segment against segments of 16: {temporary[options.frames] / temporary[16]:.1f} times")


if __name__ == "__main__":
    main()
