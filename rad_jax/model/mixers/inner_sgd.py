"""The inner training of TTT-Linear: a linear model for every token and head that learns, frame by frame, to map keys to values.

The model is f(x) = x + LN(x W + b), its loss on a frame 1/2 |f(k) - v|^2 (Sun et al. 2024, arXiv 2407.04620, sections 2.3
and 2.7). A mini-batch takes all its gradients at the weights it starts with (section 2.4), and frame i of it is read with
the weights after its own step:

    g_j = d loss_j / d z_j at z_j = k_j W + b;    u_j = rate_j g_j
    W_i = W - c_i sum_{j<=i} k_j^T u_j;           b_i = b - c_i sum_{j<=i} u_j;      W' = W_M, b' = b_M

Only W_M is ever built. What frame i reads comes from the dual form (section 2.5):

    q_i W_i + b_i = q_i W + b - sum_{j<=i} c_i (q_i . k_j + 1) u_j

The weights here are differences from a learned start, which is applied to all frames at once in `Frames.base`. In shapes i
is the frames of a mini-batch, two_i their keys and then their queries, g mini-batches. Keys and queries are in the compute
dtype, all else in that of the state; what is written is never rounded to less.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rad_jax.arrays import fit
from rad_jax.axes import Array, Float
from rad_jax.model.mixers import standardise

exact = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class Linear(NamedTuple):
    """A linear map of every token and head: weights, a difference of weights, or a sum of gradients."""

    weight: Float[Array, "b n h e e"]
    bias: Float[Array, "b n h e"]


class Norm(NamedTuple):
    """Gain and bias of the inner model's layer norm, (h, e)."""

    gain: Float[Array, "h e"]
    bias: Float[Array, "h e"]


class Frames(NamedTuple):
    """What the inner training needs of the frames of a mini-batch; nothing of it depends on the state.

    tokens: keys, then queries.
    base: the same through the learned start.
    target: v - k.
    rate: the factor of ``u`` in the gradient, inner_rate lr / e.
    """

    tokens: Float[Array, "*g b n h two_i e"]
    base: Float[Array, "*g b n h two_i e"]
    target: Float[Array, "*g b n h i e"]
    rate: Float[Array, "*g b n h i"]


def apply(linear: Linear, x: Float[Array, "*b i e"]) -> Float[Array, "*b i e"]:
    """``x W + b`` with operands in the dtype of ``x`` and a result in that of the weights."""
    weight, bias = linear
    product = jnp.einsum("...ie,...ef->...if", x, weight.astype(x.dtype), preferred_element_type=weight.dtype)
    return product + bias[..., None, :]


def normalise(z: Float[Array, "*b h i e"], norm: Norm) -> Float[Array, "*b h i e"]:
    """Layer norm of every head with its own gain and bias."""
    return norm.gain[:, None] * standardise(z)[0] + norm.bias[:, None]


def gradient(
    z: Float[Array, "*b h i e"], target: Float[Array, "*b h i e"], norm: Norm
) -> Float[Array, "*b h i e"]:
    """The derivative of 1/2 |LN(z) - target|^2 in z."""
    x, factor = standardise(z)
    slope = norm.gain[:, None] * (norm.gain[:, None] * x + norm.bias[:, None] - target)
    return factor * (slope - slope.mean(-1, keepdims=True) - x * (slope * x).mean(-1, keepdims=True))


def evaluate(
    weights: Linear, frames: Frames, norm: Norm
) -> tuple[Float[Array, "*b h i e"], Float[Array, "*b h i e"]]:
    """What every frame reads from ``weights`` before any step, and its ``u``."""
    keys, queries = jnp.split(frames.base + apply(weights, frames.tokens), 2, axis=-2)
    return queries, frames.rate[..., None] * gradient(keys, frames.target, norm)


def written(keys: Float[Array, "*b i e"], u: Float[Array, "*b i e"]) -> Linear:
    """The sums of k^T u and u over the frames."""
    return Linear(exact("...ie,...if->...ef", keys.astype(u.dtype), u), u.sum(-2))


def add(a: Linear, b: Linear) -> Linear:
    """The sum of two maps."""
    return jax.tree.map(jnp.add, a, b)


def scale(linear: Linear, factor: Float[Array, "b"]) -> Linear:
    """Scales the maps of every video."""
    return jax.tree.map(lambda w: factor.reshape(-1, *[1] * (w.ndim - 1)) * w, linear)


def train(
    weights: Linear,
    frames: Frames,
    coupling: Float[Array, "g b n h i i"],
    norm: Norm,
    last: Float[Array, ""],
    segment: int,
) -> tuple[Float[Array, "g b n h i e"], Float[Array, "g b n h i e"]]:
    """Trains on one mini-batch after another: what each frame reads after its own step (before the norm), and its ``u``.

    The weights after any frame follow from ``weights``, keys and ``u``, without a copy for every frame. The backward pass
    keeps the weights at the start of every segment, and those of all mini-batches for one segment at a time.

    Args:
      coupling: c_i (q_i . k_j + 1) in row i and column j <= i, 0 in others.
      last: c_M, the coefficient of the step that a whole mini-batch makes.
      segment: mini-batches of one segment, at most.
    """

    def step(weights: Linear, inputs: tuple[Frames, Array]) -> tuple[Linear, tuple[Array, Array]]:
        frames, coupling = inputs
        read, u = evaluate(weights, frames, norm)
        keys, _ = jnp.split(frames.tokens, 2, axis=-2)
        # The scaled sum itself would be kept for the derivative in ``last``: a second copy of the weights per mini-batch.
        return add(weights, written(keys, -last * u)), (read - exact("...ij,...je->...ie", coupling, u), u)

    count = frames.rate.shape[0]
    segments = -(-count // segment)
    size = -(-count // segments)

    def cut(x: Array) -> Array:
        return fit(segments * size, x, axis=0).reshape(segments, size, *x.shape[1:])

    # XLA unrolls a loop of one step, and would then merge the recomputation with what it recomputes.
    run = jax.checkpoint(functools.partial(jax.lax.scan, step), prevent_cse=segments == 1)
    _, outputs = jax.lax.scan(run, weights, jax.tree.map(cut, (frames, coupling)))
    return jax.tree.map(lambda x: x.reshape(segments * size, *x.shape[2:])[:count], outputs)
