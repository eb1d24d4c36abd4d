"""A ray-cast Memory Maze in NumPy and JAX, without OpenGL or a physics engine.

A `recipe` says what to make. `protocols` move an agent (`motion`, led by `policy`) through a `world`, which is a `layout`
dressed with `textures`; `render` makes frames of its poses, and `episodes` has the form in which they are stored.

Units are cells (one cell is 2 m in Memory Maze): ``(0, 0)`` is the lower left corner of the inner maze, cell ``(i, j)`` has its
centre at ``(i + 0.5, j + 0.5)``, arrays over cells are indexed ``[y, x]`` with y upwards. Headings are angles in the plane,
counter-clockwise from the x axis; turning left increases them.
"""
