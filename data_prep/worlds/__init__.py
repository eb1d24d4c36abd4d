"""Worlds from which data sets are made: `maze` and `voxel` are rendered here, `memory_maze` and `luanti` by others.

All share what a recipe says (`recipe`) and what walks have in common (`walks`); the first two, how views are drawn (`views`).

Axes of shapes, beside those of `rad_jax.axes`: ``y x`` cells of a maze or texels, ``x y z`` blocks, ``k`` targets or textures,
``l`` levels of detail, ``v`` views, ``r`` rays, ``p`` columns of a pose.
"""
