"""Luanti (once Minetest), a voxel engine with a client of its own, recorded in lock-step under a virtual display.

    server_mod   moves the player one action at a time, as told through a pipe (Lua)
    client_mod   tells when a pose is on the screen (Lua)
    world        the directory the engine runs in: settings, world, mods
    display      the virtual display, and the picture in it
    engine       the engine as a process: one action in, one pose and frame out
    session      a walk of the policies of `data_prep.worlds.voxel`, recorded

Actions and files are those of `data_prep.worlds.voxel`; so are positions and angles: x is mirrored, because the
engine's z points north where Minecraft's points south.
"""
