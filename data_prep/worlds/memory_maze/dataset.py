"""From a recipe to episodes of Memory Maze on MuJoCo, which is loaded with the first of them."""

from contextlib import closing

import numpy as np

from data_prep.worlds.maze import episodes
from data_prep.worlds.maze.protocols import draw_walk
from data_prep.worlds.memory_maze.recipe import MemoryMazeRecipe
from data_prep.worlds.walks import oracle_poses
from rad_jax.data import Episode


def make_episode(recipe: MemoryMazeRecipe, index: int) -> Episode:
    """One episode, a function of the recipe and its index alone; equal bytes where OpenGL draws equal pixels."""
    from data_prep.worlds.memory_maze.environment import MuJoCoMaze

    with closing(MuJoCoMaze(recipe.size, recipe.pixels, recipe.has_border)) as maze:

        def new_environment(rng: np.random.Generator) -> MuJoCoMaze:
            maze.reset(int(rng.integers(2**32)))
            return maze

        _, walk = draw_walk(recipe, index, new_environment)
        # Exact turns are views from poses; everything else is what the agent saw on its way.
        frames = np.stack(maze.frames) if recipe.exact_turn is None else maze.render(walk.pose, walk.target)
        oracle = None
        if recipe.has_context:
            later = slice(walk.n_context, None)
            known = maze.render(oracle_poses(walk.pose, walk.n_context, 2)[later], walk.target[later])
            oracle = np.concatenate([frames[: walk.n_context], known])
        return episodes.make_episode(recipe, maze.world, walk, frames, oracle)
