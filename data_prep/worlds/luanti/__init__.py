"""Luanti (once Minetest), a voxel engine with a client of its own, recorded in lock-step under a virtual display.

    server_mod   moves the player one action at a time, as told through a pipe (Lua)
    client_mod   reports when a pose is on the screen (Lua)
    world        the directory the engine runs in: settings, world, mods
    display      the virtual display, and the picture in it
    engine       the engine as a process: one action in, one pose and frame out
    recipe       what the engine can record of a voxel recipe
    session      records a walk of the policies of `data_prep.worlds.voxel`

Actions, files, positions and angles are those of `data_prep.worlds.voxel`. x is mirrored, because the engine's z points north
where Minecraft's points south.
"""
