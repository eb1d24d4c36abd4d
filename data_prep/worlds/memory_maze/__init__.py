"""The real Memory Maze: MuJoCo through `memory-maze`, walked by the policy and protocols of `data_prep.worlds.maze`.

    package      loading the package: versions, OpenGL, without gym
    patches      changes to dm_control that make it faster and smaller and leave every image as it is
    environment  one maze on MuJoCo behind the interface of `data_prep.worlds.maze.environment`
    recipe       what of a recipe this renderer can follow
    dataset      recipe and index -> an episode, in the form of the ray-cast maze's
    workers      episodes from many processes, in order

The package is an extra: nothing here is imported by anything else.
"""
