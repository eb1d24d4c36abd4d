"""What gradients are taken of."""

import jax

from rad_jax.model.mixers.contract import noise


def weighted_sum(tree):
    """A number that depends on every entry in its own way."""
    leaves = jax.tree.leaves(tree)
    return sum((leaf * noise(i, *leaf.shape)).sum() for i, leaf in enumerate(leaves))
