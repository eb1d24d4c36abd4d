"""The gated delta memory of ARL2 (Li, Shah and Shang 2026, arXiv 2605.16579), one state per head for a whole frame.

Every token of a frame reads the state from before the frame; then the frame is written, token after token, by the gated
delta rule (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464):

    y = o(s(x Wg) * S^T q / sqrt(e))                       all tokens, from the same S
    S <- exp(gamma) S;   S <- S + k (beta (v - S^T k))^T   for each token of the frame
    gamma = -exp(A) softplus(x Wa + bias);   beta = 2 s(x Wb);   q and k of length one, rotated to their place in the frame

That a token sees nothing of its own frame here is the rule: what is in the frame is the business of spatial attention.
ARL2's feature maps and norms of q and k only mattered to a frozen teacher; they are part of the projections here.

The write of a frame is an affine map of the state, S <- keep S + write, and the maps of all frames are made at once; only
their products are sequential.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Float, Int, Key
from rad_jax.config import ModelConfig
from rad_jax.model.mixers.triangular import solve_unit_lower
from rad_jax.model.rope import rotate, spatial_angles

DECAY_RATE = (1.0, 16.0)  # exp(A) starts uniform here
FRAME_STEP = (1e-3, 1e-1)  # and softplus(bias), summed over the tokens of a frame, log-uniform here
small = nn.initializers.variance_scaling(2.0**-5, "fan_avg", "uniform")  # Xavier with ARL2's gain 2^-2.5


def write_of_frame(
    k: Float[Array, "*b n e"],
    v: Float[Array, "*b n e"],
    beta: Float[Array, "*b n"],
    gamma: Float[Array, "*b n"],
) -> tuple[Float[Array, "*b e e"], Float[Array, "*b e e"]]:
    """The gated delta rule over ``n`` tokens as one map ``S <- keep @ S + write`` (its chunk form).

    With u_i = beta_i (v_i - S_(i-1)^T k_i), decayed, the state after token i is a sum over tokens up to i, so the u solve a
    triangular system, once for the part that depends on S and once for the part that does not.
    """
    n, e = k.shape[-2:]
    total = jnp.cumsum(gamma, axis=-1)
    earlier = jnp.tril(jnp.ones((n, n), bool))
    # The mask is inside the exponential: outside it, the gradient of an overflow above the diagonal would be 0 * inf.
    between = jnp.exp(jnp.where(earlier, total[..., :, None] - total[..., None, :], -jnp.inf))
    overlap = beta[..., None] * jnp.einsum("...ie,...je->...ij", k, k) * between
    sides = beta[..., None] * jnp.concatenate([v, jnp.exp(total)[..., None] * k], axis=-1)
    fresh, stale = jnp.split(solve_unit_lower(overlap, sides), [e], axis=-1)
    late = k * jnp.exp(total[..., -1:] - total)[..., None]
    decayed = jnp.exp(total[..., -1])[..., None, None] * jnp.eye(e, dtype=k.dtype)
    write = jnp.einsum("...ne,...nv->...ev", late, fresh)
    return decayed - jnp.einsum("...ne,...nf->...ef", late, stale), write


class ARL2(nn.Module):
    """See the module docstring, and `rad_jax.model.mixers` for the contract.

    The state is one matrix per head, keys by values: (b, h, e, e), at least float32.

    Attributes:
      width: features of ``y``, shared out over ``heads``.
      grid: rows and columns of the tokens of a frame.
      dtype: of the operands of the projections.
      param_dtype: of parameters and of everything else.
    """

    width: int
    heads: int
    grid: tuple[int, int]
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @classmethod
    def from_config(cls, config: ModelConfig, **kwargs: Any) -> "ARL2":
        """Builds the module from a ``ModelConfig``."""
        heads = config.memory.heads or config.heads
        return cls(config.width, heads, config.grid, config.compute_dtype, config.state_dtype, **kwargs)

    def setup(self):
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.qkv = nn.Dense(3 * self.width, **types)
        self.gates = nn.Dense(3 * self.heads, use_bias=False, kernel_init=small, **types)
        self.out = nn.Dense(self.width, **types)
        self.rate = self.param("rate", self._init_rate, (self.heads,), self.param_dtype)
        self.step = self.param("step", self._init_step, (self.heads,), self.param_dtype)

    def initial_state(self, batch: int, tokens: int) -> Float[Array, "b h e e"]:
        e = self.width // self.heads
        return jnp.zeros((batch, self.heads, e, e), self.param_dtype)

    def run(
        self, state: Float[Array, "b h e e"], x: Float[Array, "b t n f"]
    ) -> tuple[Float[Array, "b h e e"], Float[Array, "b t n d"]]:
        state, before, q, gate = self._run(state, x)
        return state, self._output(jnp.einsum("bthke,btnhk->btnhe", before, q), gate)

    def run_with_states(
        self, state: Float[Array, "b h e e"], x: Float[Array, "b t n f"], ends: Int[Array, "b k"]
    ) -> tuple[Float[Array, "b h e e"], Float[Array, "b t n d"], Float[Array, "b k h e e"]]:
        last, before, q, gate = self._run(state, x)
        # A state for every frame is affordable here: it has no axis of tokens.
        every = jnp.concatenate([before, last[:, None]], axis=1)
        states = jnp.take_along_axis(every, jnp.clip(ends, 0, x.shape[1])[:, :, None, None, None], axis=1)
        return last, self._output(jnp.einsum("bthke,btnhk->btnhe", before, q), gate), states

    def read(self, state: Float[Array, "b h e e"], x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        q, *_, gate = self._project(x)
        return self._output(jnp.einsum("bhke,btnhk->btnhe", state, q), gate)

    def _run(
        self, state: Float[Array, "b h e e"], x: Float[Array, "b t n f"]
    ) -> tuple[
        Float[Array, "b h e e"], Float[Array, "b t h e e"], Float[Array, "b t n h e"], Float[Array, "b t n h"]
    ]:
        """The state after all frames and before each of them, with the queries and gates of what reads it."""
        q, k, v, beta, gamma, gate = self._project(x)
        heads_first = [rearrange(z, "b t n h ... -> t b h n ...") for z in (k, v, beta, gamma)]
        # The square matrices over tokens are made again in the backward pass.
        keep, write = jax.checkpoint(write_of_frame)(*heads_first)
        last, before = jax.lax.scan(lambda s, frame: (frame[0] @ s + frame[1], s), state, (keep, write))
        return last, rearrange(before, "t b h k e -> b t h k e"), q, gate

    def _project(self, x: Float[Array, "b t n f"]) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Queries (scaled), keys and values (b, t, n, h, e), write strength, log decay and output gate (b, t, n, h)."""
        q, k, v = rearrange(self._state_typed(self.qkv(x)), "b t n (s h e) -> s b t n h e", s=3, h=self.heads)
        angles = spatial_angles(*self.grid, q.shape[-1])[:, None]
        q, k = (unit(rotate(z, angles)) for z in (q, k))
        step, write, gate = rearrange(self._state_typed(self.gates(x)), "b t n (s h) -> s b t n h", s=3)
        gamma = -jnp.exp(self.rate) * jax.nn.softplus(step + self.step)
        return q / np.sqrt(q.shape[-1]), k, v, 2 * jax.nn.sigmoid(write), gamma, jax.nn.sigmoid(gate)

    def _output(self, y: Float[Array, "b t n h e"], gate: Float[Array, "b t n h"]) -> Float[Array, "b t n d"]:
        return self.out(rearrange(gate[..., None] * y, "b t n h e -> b t n (h e)"))

    def _state_typed(self, x: Array) -> Array:
        return x.astype(self.param_dtype)

    def _init_rate(self, key: Key[Array, ""], shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "h"]:
        return jnp.log(jax.random.uniform(key, shape, dtype, *DECAY_RATE))

    def _init_step(self, key: Key[Array, ""], shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "h"]:
        """Per token, so that a frame of any size starts with the decay that the delta rule's authors give one token."""
        low, high = np.log(FRAME_STEP)
        step = jnp.exp(jax.random.uniform(key, shape, dtype, low, high)) / (self.grid[0] * self.grid[1])
        return step + jnp.log(-jnp.expm1(-step))  # the inverse of softplus


def unit(x: Float[Array, "*b e"], epsilon: float = 1e-6) -> Float[Array, "*b e"]:
    """Vectors of length one."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + epsilon)


MIXER = ARL2
