"""How a frame is written into a state of linear attention, and how tokens read it: functions on arrays.

The state S of a head is a matrix, keys by values. A rule makes of the keys (rows of K), values, strengths beta and log decays
gamma of a frame one affine map of the state from before it, ``S <- keep S + write``:

    token   for each token in turn:  S <- exp(gamma) S;  S <- S + k (beta (v - S^T k))^T
            the gated delta rule, Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464; as ARL2 has it, arXiv 2605.16579
    frame   S <- exp(gamma) (I - K^T diag(beta) K) S + K^T diag(beta) V
            all tokens at once, each against the S from before the frame; SANA-WM, arXiv 2605.15178
    sum     S <- S + K^T V
            nothing is ever forgotten; SANA-Video, arXiv 2509.24695. It is ``frame`` with keep = I and beta = 1

Under ``frame`` and ``sum`` no key has a negative feature, and a state has a normaliser z, a vector over keys. It is written by
the same rule, as a state of one value that is 1 for every token, but with keys that are not rotated. A query reads

    y = rot(q)^T S / (max(q^T z, 0) + eps)

that is, the mean of what similar keys have written, weighted by similarity, had the numerator not been rotated. An empty state
reads as exactly 0. q^T z is not negative under ``sum``; under ``frame`` it can be where keys differ in length, and without the
maximum a query on its way there would meet a pole. Tokens at different places may have similar keys that their rotation makes
cancel or add up, so y is no mean of values, and where q^T z is nearly 0 only eps bounds it; hence eps is not tiny.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from rad_jax.axes import Array, Float
from rad_jax.model.mixers.triangular import solve_unit_lower

EPSILON = 1e-2  # of the normaliser, to which a frame of a few dissimilar keys adds about as much, one of 16 tokens some tenths


class LinearState(NamedTuple):
    """What heads remember of blocks of tokens, or, as ``keep`` and ``write``, what a frame does to it. At least float32.

    s: keys by values; of ``keep`` keys by keys (None: the identity).
    z: the normaliser (None: the rule has none); of ``keep`` keys by keys (None: the identity).
    """

    s: Float[Array, "*b e e"] | None
    z: Float[Array, "*b e"] | Float[Array, "*b e e"] | None


Map = tuple[Float[Array, "*b e e"] | None, Float[Array, "*b e v"]]
"""``keep`` (None: the identity) and ``write``."""


def token_rule(
    k: Float[Array, "*b n e"],
    v: Float[Array, "*b n v"],
    beta: Float[Array, "*b n"],
    gamma: Float[Array, "*b n"],
) -> Map:
    """The gated delta rule over ``n`` tokens as one map (its chunk form).

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
    fresh, stale = jnp.split(solve_unit_lower(overlap, sides), [v.shape[-1]], axis=-1)
    late = k * jnp.exp(total[..., -1:] - total)[..., None]
    decayed = jnp.exp(total[..., -1])[..., None, None] * jnp.eye(e, dtype=k.dtype)
    write = jnp.einsum("...ne,...nv->...ev", late, fresh)
    return decayed - jnp.einsum("...ne,...nf->...ef", late, stale), write


def frame_rule(
    k: Float[Array, "*b n e"],
    v: Float[Array, "*b n v"],
    beta: Float[Array, "*b n"],
    gamma: Float[Array, "*b 1"],
) -> Map:
    """All tokens at once, with one log decay.

    If the squared lengths of the keys of a frame sum up to at most 1 and beta is at most 1, the eigenvalues of ``keep`` are
    within 0..exp(gamma), and the state of frames without end stays bounded. Longer keys make it explode.
    """
    strong = beta[..., None] * k
    decay = jnp.exp(gamma)[..., None]
    keep = decay * (jnp.eye(k.shape[-1], dtype=k.dtype) - jnp.einsum("...ne,...nf->...ef", strong, k))
    return keep, jnp.einsum("...ne,...nv->...ev", strong, v)


def sum_rule(k: Float[Array, "*b n e"], v: Float[Array, "*b n v"], beta: None, gamma: None) -> Map:
    """What there is, and what is new."""
    return None, jnp.einsum("...ne,...nv->...ev", k, v)


RULES: dict[str, Callable[..., Map]] = {"token": token_rule, "frame": frame_rule, "sum": sum_rule}


def maps(
    rule: Callable[..., Map],
    k: Float[Array, "*b n e"],
    v: Float[Array, "*b n e"],
    bare_k: Float[Array, "*b n e"] | None,
    *gates: Array | None,
) -> tuple[LinearState, LinearState]:
    """``keep`` and ``write`` of a frame, of S and (with ``bare_k``, which are not rotated) of the normaliser."""
    keep, write = rule(k, v, *gates)
    if bare_k is None:
        return LinearState(keep, None), LinearState(write, None)
    keep_z, write_z = rule(bare_k, jnp.ones_like(v[..., :1]), *gates)
    return LinearState(keep, keep_z), LinearState(write, write_z[..., 0])


def advance(state: LinearState, keep: LinearState, write: LinearState) -> LinearState:
    """The state after a frame."""
    s = write.s + (state.s if keep.s is None else keep.s @ state.s)
    if state.z is None:
        return LinearState(s, None)
    kept = state.z if keep.z is None else jnp.einsum("...ij,...j->...i", keep.z, state.z)
    return LinearState(s, write.z + kept)


def normalise(y: Float[Array, "*b e"], weight: Float[Array, "*b"]) -> Float[Array, "*b e"]:
    """``y`` = rot(q)^T S over ``weight`` = q^T z."""
    return y / (jnp.maximum(weight, 0) + EPSILON)[..., None]
