"""The model: a latent video diffusion transformer with a recurrent memory in every block.

Start with `rad_jax.model.rad` (the whole) and `rad_jax.model.block` (its repeated part).
"""

from rad_jax.model.rad import RAD, WindowCache

__all__ = ["RAD", "WindowCache"]
