"""A landscape of blocks to walk in, in NumPy and JAX, without OpenGL or a game engine.

A `recipe` says what to make. `protocols` move a player (`motion`, led by `policy`) through the world of `terrain`, which is
made of `blocks`; `render` makes frames of the poses, and `episodes` are stored as pairs of mp4 and npz in VRAG's layout.

Units are blocks (one block is a metre). x points east, y up, z south; a position is that of the feet. The world is a torus
in x and z: positions grow beyond its size, and places one size apart are the same place. Angles are those of Minecraft and
MineRL: yaw in degrees, clockwise seen from above, yaw 0 looks along +z, so that forward is (-sin yaw, cos yaw) in (x, z).
"""
