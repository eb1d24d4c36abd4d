"""Luanti (once Minetest), a voxel engine with a client of its own, recorded in lock-step under a virtual display.

`session` records a walk of the policies of `data_prep.worlds.voxel`, as a `recipe` says. Its `engine` is a process that runs in
a directory of `world` and shows its picture on a `display`: one action in, one pose and frame out. Inside, `server_mod` (Lua)
moves the player one action at a time, as told through a pipe, and `client_mod` (Lua) reports when a pose is on the screen.

Actions, files, positions and angles are those of `data_prep.worlds.voxel`. x is mirrored, because the engine's z points north
where Minecraft's points south.
"""
