"""A ray-cast Memory Maze in NumPy and JAX, without OpenGL or a physics engine.

    layout     a random maze: corridors, rooms, target cells
    world      a layout dressed with wall patterns, colours and targets: all that the renderer needs
    textures   the procedural wall and floor patterns
    border     the target colour around a frame
    render     frames from poses (JAX)
    motion     what an action does to the agent
    policy     shortest paths, following them, and the wandering of the training walks
    environment  what walks are made in: the interface, and this maze behind it
    protocols  whole walks: train, return, loop, rotate
    oracle     the perfect-map prediction of a walk
    recipe     everything the frames of a data set depend on, checked
    walks      recipe -> the walk of an episode, in any environment
    episodes   the form in which episodes are stored
    dataset    recipe -> episodes of this maze

Units are cells (one cell is 2 m in Memory Maze): ``(0, 0)`` is the lower left corner of the inner maze, cell
``(i, j)`` has its centre at ``(i + 0.5, j + 0.5)``, arrays over cells are indexed ``[y, x]`` with y upwards.
Headings are angles in the plane, counter-clockwise from the x axis; turning left increases them.
"""
