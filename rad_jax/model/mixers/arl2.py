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

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Float, Int
from rad_jax.model.mixers import Mixer, Walk, states_among
from rad_jax.model.mixers.mamba2 import first_log_rate, first_step
from rad_jax.model.mixers.triangular import solve_unit_lower
from rad_jax.model.rope import rotate, spatial_angles

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


class ARL2(Mixer):
    """See the module docstring. The state is one matrix per head, keys by values: (b, h, e, e), at least float32."""

    def setup(self):
        config = self.config
        self.qkv = nn.Dense(3 * config.width, **config.types)
        self.gates = nn.Dense(3 * self.heads, use_bias=False, kernel_init=small, **config.types)
        self.out = nn.Dense(config.width, **config.types)
        self.rate = self.param("rate", first_log_rate, (self.heads,), config.state_dtype)
        # Per token, so that a frame of any size starts with the decay that the delta rule's authors give one token.
        self.step = self.param("step", first_step, (self.heads,), config.state_dtype, config.tokens)

    def initial_state(self, batch: int, tokens: int) -> Float[Array, "b h e e"]:
        e = self.config.width // self.heads
        return jnp.zeros((batch, self.heads, e, e), self.config.state_dtype)

    def walk(self, state: Float[Array, "b h e e"], x: Float[Array, "b t n f"]) -> Walk:
        q, k, v, beta, gamma, gate = self._project(x)
        heads_first = [rearrange(z, "b t n h ... -> t b h n ...") for z in (k, v, beta, gamma)]
        # The square matrices over tokens are made again in the backward pass.
        keep, write = jax.checkpoint(write_of_frame)(*heads_first)
        last, before = jax.lax.scan(lambda s, frame: (frame[0] @ s + frame[1], s), state, (keep, write))
        before = rearrange(before, "t b h k e -> b t h k e")

        def states_at(ends: Int[Array, "b k"]) -> Float[Array, "b k h e e"]:
            # A state for every frame is affordable here: it has no axis of tokens.
            return states_among(jnp.concatenate([before[:, 1:], last[:, None]], axis=1), ends)

        return last, self._output(jnp.einsum("bthke,btnhk->btnhe", before, q), gate), states_at

    def read(self, state: Float[Array, "b h e e"], x: Float[Array, "b t n f"]) -> Float[Array, "b t n d"]:
        q, *_, gate = self._project(x)
        return self._output(jnp.einsum("bhke,btnhk->btnhe", state, q), gate)

    def _project(self, x: Float[Array, "b t n f"]) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Queries (scaled), keys and values (b, t, n, h, e), write strength, log decay and output gate (b, t, n, h)."""
        qkv, gates = (layer(x).astype(self.config.state_dtype) for layer in (self.qkv, self.gates))
        q, k, v = rearrange(qkv, "b t n (s h e) -> s b t n h e", s=3, h=self.heads)
        angles = spatial_angles(*self.config.grid, q.shape[-1])[:, None]
        q, k = (unit(rotate(z, angles)) for z in (q, k))
        step, write, gate = rearrange(gates, "b t n (s h) -> s b t n h", s=3)
        gamma = -jnp.exp(self.rate) * jax.nn.softplus(step + self.step)
        return q / np.sqrt(q.shape[-1]), k, v, 2 * jax.nn.sigmoid(write), gamma, jax.nn.sigmoid(gate)

    def _output(self, y: Float[Array, "b t n h e"], gate: Float[Array, "b t n h"]) -> Float[Array, "b t n d"]:
        return self.out(rearrange(gate[..., None] * y, "b t n h e -> b t n (h e)"))


def unit(x: Float[Array, "*b e"]) -> Float[Array, "*b e"]:
    """Vectors of length one."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6)


MIXER = ARL2
