"""A ray-cast Memory Maze in NumPy and JAX, without OpenGL or a physics engine.

    layout        a random maze: corridors, rooms, target cells
    textures      wall and floor patterns, and the border of a frame
    world         a layout dressed with wall patterns, colours and targets: all that the renderer needs
    render        frames from poses (JAX)
    motion        how an action moves the agent, and the environment that a protocol moves it in
    policy        shortest paths, following them, and the wandering of the training walks
    recipe        everything the frames of a data set depend on, checked
    protocols     whole walks: train, return, loop, rotate, in any environment
    episodes      the form in which episodes are stored
    dataset       recipe -> episodes of this maze
    command_line  the options of the commands that write episodes

Units are cells (one cell is 2 m in Memory Maze): ``(0, 0)`` is the lower left corner of the inner maze, cell ``(i, j)`` has its
centre at ``(i + 0.5, j + 0.5)``, arrays over cells are indexed ``[y, x]`` with y upwards. Headings are angles in the plane,
counter-clockwise from the x axis; turning left increases them.
"""
