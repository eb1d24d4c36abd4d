"""The real Memory Maze: MuJoCo through `memory-maze`, walked by the policy and protocols of `data_prep.worlds.maze`.

A `recipe` says what to make. `environment` is one maze on MuJoCo behind the interface of `data_prep.worlds.maze.motion`, so its
episodes have the form of the ray-cast maze's. `package` loads the simulator (versions, OpenGL, without gym), `patches` change
dm_control so that it takes less time and memory and every image stays the same.

The package is an extra: of the rest of the project, only the command make_memory_maze imports this.
"""
