"""Memory queries: learned vectors that ask every frame what they should keep (Echo-Infinity 2026, arXiv 2606.04527).

A memory is M vectors Q, which start at learned ones, Q0. Queries and tokens meet in cross-attention, in either direction:

    y  = Wy softmax(q(x) . k(Q) / sqrt(e)) v(Q)              a token reads; 0 from an empty memory
    U  = Wu softmax(q'(Q) . k'(x) / sqrt(e)) v'(x)           a query asks all tokens of a frame
    g  = s([norm(Q), U] Wg + b);   Q <- g o Q + (1 - g) o U  b starts at 2: g is 0.88, a feature at a time

All tokens read the queries from before their frame, then the frame is written. q, k, v see norm(Q), a layer norm without gain.
Keys and queries of tokens are rotated, by their place in the frame or also by where it was seen from (``memory.rotate``);
those of the memory belong to no place, so each may come to prefer one. Queries do not see each other.

With ``memory.write=attention`` as above, as published, a query takes the mean of what it finds in a frame, however little that
is, and g alone can refuse it. With ``competition`` the queries compete for the tokens, as slots do in slot attention (Locatello
et al. 2020, arXiv 2006.15055), and a query that has won no token stays as it is:

    a = softmax over queries of the same logits;   w = sum over tokens of a, what a query has won;   c = mean of w over heads
    U = Wu (a / w) v'(x);   Q <- Q + c / (1 + c) (1 - g) o (U - Q)

The state is S = Q - Q0, so that an empty one needs no parameters. A memory is empty where S is exactly 0: no frame has been
written, or each was refused entirely. Then Q0 is not read either: what it would say is no memory.

Echo-Infinity has one encoder for the model, two layers deep, that is fed by the last layer and read by all. Here every block
has its own, one layer deep: prefetch goes through a clip layer after layer, and the first could not wait for the last. Its Q0
starts at a deviation of 0.014 without a norm behind it; here at 1, so that queries differ from the start and for longer.
"""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Float, Int
from rad_jax.model.attention import scaled_logits, softmax
from rad_jax.model.mixers import Mixer, Walk, matmul, standardise, states_among
from rad_jax.model.rope import rotate, token_angles

FIRST_GATE = 2.0
EPSILON = 1e-6  # of what a query has won

uniform = nn.initializers.lecun_uniform()  # for square maps that of Xavier

Heads = Float[Array, "*b n h e"]


class Queries(Mixer):
    """See the module docstring. The state is S (b, m, u), of m queries, u wide."""

    @property
    def width(self) -> int:
        return self.config.memory.query_width or self.config.width

    def setup(self):
        config, width, dtype = self.config, self.width, self.config.state_dtype
        types = {"use_bias": False, "kernel_init": uniform, **config.types}
        self.start = self.param("start", nn.initializers.normal(1.0), (config.memory.queries, width), dtype)
        self.ask, self.offer = nn.Dense(width, **types), nn.Dense(2 * width, **types)
        self.update = nn.Dense(width, **types)
        self.gate_kernel = self.param("gate_kernel", uniform, (2 * width, width), dtype)
        self.gate_bias = self.param("gate_bias", nn.initializers.constant(FIRST_GATE), (width,), dtype)
        self.look, self.show = nn.Dense(width, **types), nn.Dense(2 * width, **types)
        self.out = nn.Dense(config.width, **types)

    def initial_state(self, batch: int, tokens: int) -> Float[Array, "b m u"]:
        return jnp.zeros((batch, self.config.memory.queries, self.width), self.config.state_dtype)

    def walk(
        self, state: Float[Array, "b m u"], x: Float[Array, "b t n f"], *pose: Float[Array, "b t p"]
    ) -> Walk:
        keys, values = self._split(self.offer(x), 2)
        keys = rotate(keys, self._angles(*pose))

        def step(
            mixer: Queries, state: Float[Array, "b m u"], frame: tuple[Heads, Heads]
        ) -> tuple[Float[Array, "b m u"], Float[Array, "b m u"]]:
            return mixer._write(state, *frame), state

        scan = nn.scan(
            nn.remat(step, prevent_cse=False),
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        last, before = scan(self, state, (keys, values))

        def states_at(ends: Int[Array, "b k"]) -> Float[Array, "b k m u"]:
            # A state for every frame is affordable here: it has no axis of tokens.
            return states_among(jnp.concatenate([before[:, 1:], last[:, None]], axis=1), ends)

        return last, self._read("bt", before, x, *pose), states_at

    def read(
        self, state: Float[Array, "b m u"], x: Float[Array, "b t n f"], *pose: Float[Array, "b t p"]
    ) -> Float[Array, "b t n d"]:
        return self._read("b", state, x, *pose)

    def _read(
        self,
        axes: str,
        state: Float[Array, "*b m u"],
        x: Float[Array, "b t n f"],
        *pose: Float[Array, "b t p"],
    ) -> Float[Array, "b t n d"]:
        """``axes`` are the leading ones of the state: "b", or "bt" with one for every frame."""
        (q,) = self._split(self.look(x), 1)
        k, v = self._split(self.show(standardise(self.start + state)[0]), 2)
        logits = scaled_logits(f"btnhe,{axes}mhe->bthnm", rotate(q, self._angles(*pose)), k)
        y = jnp.einsum(f"bthnm,{axes}mhe->btnhe", softmax(logits).astype(v.dtype), v)
        written = jnp.any(state != 0, axis=(-2, -1))
        y = self.out(rearrange(y, "b t n h e -> b t n (h e)"))
        return jnp.where(written.reshape(len(x), -1, 1, 1), y, 0)

    def _write(self, state: Float[Array, "b m u"], keys: Heads, values: Heads) -> Float[Array, "b m u"]:
        """The state after a frame."""
        held = self.start + state
        known, _ = standardise(held)
        (q,) = self._split(self.ask(known), 1)
        logits, share = scaled_logits("bmhe,bnhe->bhmn", q, keys), 1
        if self.config.memory.write == "attention":
            weights = softmax(logits)
        else:
            weights = jax.nn.softmax(logits, axis=-2)
            won = weights.sum(-1, keepdims=True)
            weights = weights / (won + EPSILON)
            share = won.mean(1) / (1 + won.mean(1))
        found = jnp.einsum("bhmn,bnhe->bmhe", weights.astype(values.dtype), values)
        update = self.update(rearrange(found, "b m h e -> b m (h e)")).astype(state.dtype)
        inputs = jnp.concatenate([known, update], axis=-1)
        gate = jax.nn.sigmoid(matmul(inputs, self.gate_kernel, self.config.compute_dtype) + self.gate_bias)
        return state + share * (1 - gate) * (update - held)

    def _split(self, z: Float[Array, "*b n u"], parts: int) -> Float[Array, "parts *b n h e"]:
        """Heads of each of several maps, which lie side by side."""
        return rearrange(z, "... n (s h e) -> s ... n h e", s=parts, h=self.heads)

    def _angles(self, *pose: Float[Array, "b t p"]) -> Float[Array | np.ndarray, "*b n 1 e"]:
        return token_angles(self.config, self.width // self.heads, *pose)


MIXER = Queries
