"""The recurrence of Mamba2 in segments of frames (Dao and Gu, "Transformers are SSMs", 2024, section 6).

    S_t = a_t S_{t-1} + (dt_t x_t) b_t^T;    y_t = S_t c_t + d x_t;    a_t = exp(rate dt_t), a number per head

Inside a segment the decay from frame j to frame i is exp(l_i - l_j), l the running sum of the log decays, so outputs and the
state at the end are matrix products, and only that state is carried on: one exists per segment, none per frame. A frame
with dt = 0 changes nothing, which is how segments are filled up and cut short.

Axes: r rows, q frames, h heads, e width of a head, u size of b and c. Heads have a ``rate``, their log decay per unit of dt
(negative), and ``d``, how much of x they let through. Decays and states have the dtype of the state,
operands of matrix products that of ``xbc``.
"""

from typing import NamedTuple

import jax.numpy as jnp
from einops import rearrange

from rad_jax.axes import Array, Float


class Inputs(NamedTuple):
    """What frames bring: x of all heads, b and c, side by side, and the step dt of every head."""

    xbc: Float[Array, "*r q xbc"]
    dt: Float[Array, "*r h q"]


def advance(
    state: Float[Array, "*r h e u"], inputs: Inputs, rate: Float[Array, "h"]
) -> Float[Array, "*r h e u"]:
    """The state after all frames."""
    x, b, _ = _split(inputs, state)
    log = _log_decay(inputs, rate)
    left = inputs.dt * jnp.exp(log[..., -1:] - log)  # what is left of each write after the last frame
    written = (x * _by_frame(left)).astype(x.dtype)
    decay = jnp.exp(log[..., -1])[..., None, None]
    return decay * state + _product("...qhe,...qu->...heu", written, b, state.dtype)


def outputs(
    state: Float[Array, "*r h e u"], inputs: Inputs, rate: Float[Array, "h"], d: Float[Array, "h"]
) -> Float[Array, "*r q h e"]:
    """The outputs of all frames, the first of which follows on ``state``."""
    x, b, c = _split(inputs, state)
    log = _log_decay(inputs, rate)
    gap = log[..., :, None] - log[..., None, :]
    causal = jnp.tril(jnp.ones(gap.shape[-2:], bool))
    # The mask is inside the exponential: outside it, the gradient of an overflow above the diagonal would be 0 * inf.
    decay = jnp.exp(jnp.where(causal, gap, -jnp.inf))
    score = _product("...iu,...ju->...ij", c, b, state.dtype)
    mixed = (score[..., None, :, :] * decay * inputs.dt[..., None, :]).astype(x.dtype)
    own = _product("...hij,...jhe->...ihe", mixed, x, state.dtype)
    return own + _by_frame(jnp.exp(log)) * _read(state, c) + d[:, None] * x


def read(
    state: Float[Array, "*r h e u"], inputs: Inputs, rate: Float[Array, "h"], d: Float[Array, "h"]
) -> Float[Array, "*r q h e"]:
    """The output of every frame as if it followed on ``state``: a S c + (dt b.c + d) x, without a state per frame."""
    x, b, c = _split(inputs, state)
    score = (b.astype(state.dtype) * c.astype(state.dtype)).sum(-1)[..., None, :]
    own = _by_frame(score * inputs.dt + d[:, None]) * x
    return own + _by_frame(jnp.exp(inputs.dt * rate[:, None])) * _read(state, c)


def _log_decay(inputs: Inputs, rate: Float[Array, "h"]) -> Float[Array, "*r h q"]:
    """Of the state, from before the first frame to after each of them."""
    return jnp.cumsum(inputs.dt * rate[:, None], axis=-1)


def _by_frame(z: Float[Array, "*r h q"]) -> Float[Array, "*r q h 1"]:
    """A number per head and frame, ready to multiply the head's features."""
    return rearrange(z, "... h q -> ... q h 1")


def _read(state: Float[Array, "*r h e u"], c: Float[Array, "*r q u"]) -> Float[Array, "*r q h e"]:
    seen = _product("...heu,...qu->...heq", state.astype(c.dtype), c, state.dtype)
    return rearrange(seen, "... h e q -> ... q h e")


def _split(inputs: Inputs, state: Float[Array, "*r h e u"]) -> tuple[Array, Array, Array]:
    """x (..., q, h, e), and b and c (..., q, u)."""
    heads, width, size = state.shape[-3:]
    x, b, c = jnp.split(inputs.xbc, [heads * width, heads * width + size], axis=-1)
    return rearrange(x, "... (h e) -> ... h e", h=heads), b, c


def _product(equation: str, left: Array, right: Array, dtype: jnp.dtype) -> Array:
    return jnp.einsum(equation, left, right, preferred_element_type=dtype)
