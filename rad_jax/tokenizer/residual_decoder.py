"""A small convolutional network that corrects a linear reconstruction, using neighbouring latents.

It works on the grid of latents, (rows, cols), and outputs the p * p * 3 values of every patch; it does not change the latents.
It is trained on latents with a little noise, because it will decode samples of a diffusion model.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from rad_jax.axes import Array, Float, Key, PyTree

WIDTH, BLOCKS = 96, 2
BATCH, PEAK_RATE, NOISE = 32, 2e-3, 0.1
"""Frames per step, peak learning rate, largest standard deviation of the noise on latents of unit variance."""


class _Net(nn.Module):
    width: int
    blocks: int
    outputs: int

    @nn.compact
    def __call__(self, z: Float[Array, "b rows cols ch"]) -> Float[Array, "b rows cols f"]:
        x = nn.Conv(self.width, (3, 3))(z)
        for _ in range(self.blocks):
            y = nn.Conv(self.width, (3, 3))(nn.gelu(x))
            x = x + nn.Conv(self.width, (1, 1))(nn.gelu(y))
        # Initialised to zero: the untrained decoder is the linear one.
        return nn.Conv(self.outputs, (1, 1), kernel_init=nn.initializers.zeros)(nn.gelu(x))


def correction(params: PyTree, latents: Float[Array, "... rows cols ch"]) -> Float[Array, "... rows cols f"]:
    """Returns what is added to every patch (its p * p * 3 values in the last axis) for latents of unit variance.

    Args:
      params: what `train` returned; their shapes determine the sizes of the network.
      latents: of any number of frames.
    """
    width, outputs = params[f"Conv_{len(params) - 1}"]["kernel"].shape[-2:]
    net = _Net(width, (len(params) - 2) // 2, outputs)
    flat = net.apply({"params": params}, latents.reshape(-1, *latents.shape[-3:]))
    return flat.reshape(*latents.shape[:-1], outputs)


def train(
    latents: Float[np.ndarray, "m rows cols ch"],
    patches: Float[np.ndarray, "m rows cols f"],
    linear: Callable[[Float[Array, "b rows cols ch"]], Float[Array, "b rows cols f"]],
    *,
    steps: int,
    seed: int,
) -> PyTree:
    """Returns the parameters of a `correction` of `linear(latents)` towards `patches`, trained by mean squared error.

    Noise is added to the latents before `linear`, so its effect on the linear reconstruction is corrected as well. Its standard
    deviation is uniform in [0, NOISE], and drawn for each frame of a batch.

    Args:
      latents: of the frames to train on, unit variance.
      patches: the same frames, cut into patches of values in [0, 1].
      linear: the linear reconstruction.
      steps: of Adam, with a cosine schedule.
      seed: of the initialisation, the noise and the choice of frames.
    """
    net = _Net(WIDTH, BLOCKS, patches.shape[-1])
    init_key, step_key = jax.random.split(jax.random.key(seed))
    params = net.init(init_key, jnp.asarray(latents[:1]))["params"]
    rule = optax.adam(optax.cosine_decay_schedule(PEAK_RATE, steps))

    @jax.jit
    def update(
        params: PyTree,
        opt: optax.OptState,
        z: Float[Array, "b rows cols ch"],
        target: Float[Array, "b rows cols f"],
        key: Key[Array, ""],
    ) -> tuple[PyTree, optax.OptState]:
        level_key, noise_key = jax.random.split(key)
        level = NOISE * jax.random.uniform(level_key, (len(z), 1, 1, 1))
        z = z + level * jax.random.normal(noise_key, z.shape)
        residual = target - linear(z)
        gradient = jax.grad(lambda p: jnp.mean((net.apply({"params": p}, z) - residual) ** 2))(params)
        change, opt = rule.update(gradient, opt)
        return optax.apply_updates(params, change), opt

    opt, draw = rule.init(params), np.random.default_rng(seed)
    for step in range(steps):
        chosen, key = draw.integers(len(latents), size=BATCH), jax.random.fold_in(step_key, step)
        params, opt = update(params, opt, latents[chosen], patches[chosen], key)
    return jax.tree.map(np.asarray, params)
