"""The LSTM, forward and backward, against `torch.nn.LSTM` and against a plain scan: time, and temporary memory of XLA.

    python -m benchmarks.lstm [--rows 432 --frames 100 --width 512] [--repeats 6]

All gradients are computed: of inputs, weights and first states. The three take turns, the fastest run of each counts. Needs
PyTorch (the ``dev`` extra).
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import timing
from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.model import mixers
from rad_jax.model.mixers import matmul


def plain(params, state, x):
    """The same layer as a scan that JAX differentiates, its input projection outside the loop."""

    def step(state, z):
        h, c = state
        i, f, g, o = jnp.split(z + matmul(h, params["cell"]["kernel"], z.dtype), 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    z = matmul(x, params["kernel"], x.dtype) + params["bias"]
    state, h = jax.lax.scan(step, tuple(state), jnp.moveaxis(z, 1, 0))
    return state, jnp.moveaxis(h, 0, 1)


def main():
    options = timing.options(__doc__, rows=432, frames=100, width=512, repeats=6)
    rows, frames, width = options.rows, options.frames, options.width
    memory = MemoryConfig(kind="lstm", action=False)
    mixer = mixers.build(ModelConfig(width=width, heads=width // 32, dtype="float32", memory=memory))
    x = jax.random.normal(jax.random.key(0), (1, frames, rows, width))
    state = mixer.initial_state(1, rows)
    params = jax.jit(lambda key: mixer.init(key, state, x[:, :1], method="run"))(jax.random.key(1))["params"]

    def gradient(run):
        def total(params, state, x):
            (h, c), y = run(params, state, x)
            return jnp.square(y).sum() + h.sum() + c.sum()

        return timing.compiled(jax.grad(total, (0, 1, 2)), params, state, x)

    ours = gradient(lambda params, state, x: mixer.apply({"params": params}, state, x, method="run"))
    scan = gradient(plain)
    layer = torch.nn.LSTM(width, width)
    # A copy, because torch wants memory of its own; rows are its batch.
    inputs = torch.from_numpy(np.array(x[0])).requires_grad_()
    first = [torch.zeros(1, rows, width, requires_grad=True) for _ in range(2)]

    def by_torch():
        y, (h, c) = layer(inputs, tuple(first))
        loss = y.square().sum() + h.sum() + c.sum()
        return torch.autograd.grad(loss, [inputs, *first, *layer.parameters()])

    runs = {
        "ours": lambda: jax.block_until_ready(ours(params, state, x)),
        "plain scan": lambda: jax.block_until_ready(scan(params, state, x)),
        "torch.nn.LSTM": by_torch,
    }
    best = dict.fromkeys(runs, float("inf"))
    for repeat in range(options.repeats + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if repeat:  # the first warms up
                best[name] = min(best[name], time.perf_counter() - begin)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, seconds in best.items():
        print(f"{name:<14} {seconds:7.3f} s  {seconds / best['torch.nn.LSTM']:5.2f} of torch")
    for name, program in (("ours", ours), ("plain scan", scan)):
        print(
            f"{name:<14} {program.memory_analysis().temp_size_in_bytes / 2**20:7.0f} MiB of temporary memory"
        )


if __name__ == "__main__":
    main()
