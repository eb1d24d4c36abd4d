"""The real Memory Maze: MuJoCo through `memory-maze`, walked by the policy and protocols of `data_prep.worlds.maze`.

    package      loading the package: versions, OpenGL, without gym
    patches      changes to dm_control that save time and memory and leave every image unchanged
    environment  one maze on MuJoCo behind the interface of `data_prep.worlds.maze.motion`
    recipe       what this renderer can make of a maze recipe
    dataset      recipe and index -> an episode, stored as those of the ray-cast maze are

The package is an extra: of the rest of the project, only the command make_memory_maze imports this.
"""
