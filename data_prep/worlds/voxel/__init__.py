"""A landscape of blocks to walk in, in NumPy and JAX, without OpenGL or a game engine.

    blocks        the kinds of blocks, and their procedural textures
    terrain       a random world: hills, lakes, beaches, trees, huts, flowers
    field         distances to the nearest block, which let rays leap over empty space
    render        frames from poses (JAX)
    motion        how an action moves the player
    policy        sequences of actions: random, polygons, out and back
    protocols     whole walks: train, rotate, loop, return
    recipe        everything the frames of a data set depend on, checked
    episodes      recipe -> episodes
    files         episodes as pairs of mp4 and npz in VRAG's layout
    command_line  the options of the commands that record in this layout

Units are blocks (one block is a metre). x points east, y up, z south; a position is that of the feet. The world is a torus
in x and z: positions grow beyond its size, and places one size apart are the same place. Angles are those of Minecraft and
MineRL: yaw in degrees, clockwise seen from above, yaw 0 looks along +z, so that forward is (-sin yaw, cos yaw) in (x, z).
"""
