"""Unit lower triangular systems, solved by batched matrix products alone.

On a CPU `jax.scipy.linalg.solve_triangular` calls LAPACK through a custom call that waits for other threads of the pool it
runs in. Two such calls at once, which XLA may schedule, can each hold a thread of a pool of two and wait for ever. Products
of matrices do not wait, and on accelerators they are what the hardware is made for.
"""

import jax
import jax.numpy as jnp
from einops import rearrange

from rad_jax.arrays import fit
from rad_jax.axes import Array, Float

BLOCK = 16
"""Rows that are inverted rather than substituted. Larger blocks lose digits to the growth of the inverse."""


@jax.custom_vjp
def solve_unit_lower(lower: Float[Array, "*b n n"], sides: Float[Array, "*b n m"]) -> Float[Array, "*b n m"]:
    """Solves ``L x = sides``, where L has ones on its diagonal and below it what ``lower`` has.

    The diagonal of ``lower`` and what is above it are never read. Differentiable in reverse, any number of times.
    """
    n = lower.shape[-1]
    block = min(BLOCK, 1 << (n - 1).bit_length())  # a power of two, for the doubling
    rows = -(-n // block) * block
    # Rows of zeros stand for rows of the identity, as the diagonal is taken for ones.
    lower, sides = fit(rows, fit(rows, lower, axis=-1), axis=-2), fit(rows, sides, axis=-2)
    starts = range(0, rows, block)
    inverse = _inverse(jnp.stack([lower[..., i : i + block, i : i + block] for i in starts]))
    solved = sides[..., :0, :]
    for index, i in enumerate(starts):  # forward substitution, a block of rows at a time
        known = _product(lower[..., i : i + block, :i], solved)
        rest = _product(inverse[index], sides[..., i : i + block, :] - known)
        solved = jnp.concatenate([solved, rest], axis=-2)
    return solved[..., :n, :]


def _forward(
    lower: Float[Array, "*b n n"], sides: Float[Array, "*b n m"]
) -> tuple[Float[Array, "*b n m"], tuple[Array, Array]]:
    solved = solve_unit_lower(lower, sides)
    return solved, (lower, solved)


def _backward(residuals: tuple[Array, Array], gradient: Float[Array, "*b n m"]) -> tuple[Array, Array]:
    lower, solved = residuals
    # The transpose of L is upper triangular; with rows and columns in reverse order it is lower triangular again.
    by_sides = solve_unit_lower(lower.mT[..., ::-1, ::-1], gradient[..., ::-1, :])[..., ::-1, :]
    return jnp.tril(-_product(by_sides, solved.mT), -1), by_sides


solve_unit_lower.defvjp(_forward, _backward)


def _inverse(lower: Float[Array, "*b s s"]) -> Float[Array, "*b s s"]:
    """The inverses of unit lower triangular matrices whose size is a power of two, by doubling.

    The inverse of ((A, 0), (C, D)) is ((A', 0), (-D' C A', D')), where A' and D' are the inverses of A and D.
    """
    size, width = 1, lower.shape[-1]
    inverse = jnp.ones((*lower.shape[:-2], width, 1, 1), lower.dtype)  # of the 1 x 1 blocks of the diagonal
    while size < width:
        firsts = range(0, width, 2 * size)
        c = jnp.stack([lower[..., i + size : i + 2 * size, i : i + size] for i in firsts], axis=-3)
        a, d = rearrange(inverse, "... (k two) i j -> two ... k i j", two=2)
        top = jnp.concatenate([a, jnp.zeros_like(a)], axis=-1)
        bottom = jnp.concatenate([-_product(_product(d, c), a), d], axis=-1)
        inverse = jnp.concatenate([top, bottom], axis=-2)
        size *= 2
    return inverse[..., 0, :, :]


def _product(a: Float[Array, "*b i j"], b: Float[Array, "*b j k"]) -> Float[Array, "*b i k"]:
    """Not in the reduced precision that accelerators take by default: errors grow from row to row."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
