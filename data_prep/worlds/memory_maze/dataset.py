"""From a recipe to episodes of Memory Maze on MuJoCo."""

from contextlib import closing

import numpy as np

from data_prep.worlds.maze.episodes import dress
from data_prep.worlds.maze.oracle import oracle_poses
from data_prep.worlds.maze.walks import draw
from data_prep.worlds.memory_maze.environment import MuJoCoMaze
from data_prep.worlds.memory_maze.recipe import MemoryMazeRecipe
from rad_jax.data import Episode


def make_episode(recipe: MemoryMazeRecipe, index: int) -> Episode:
    """One episode, a function of the recipe and its index alone; equal bytes where OpenGL draws equal pixels."""
    with closing(MuJoCoMaze(recipe.size, recipe.pixels, recipe.has_border)) as maze:

        def new_environment(rng: np.random.Generator) -> MuJoCoMaze:
            maze.reset(int(rng.integers(2**32)))
            return maze

        _, walk = draw(recipe, index, new_environment)
        # Exact turns are views from poses; everything else is what the agent saw on its way.
        frames = np.stack(maze.frames) if recipe.exact_turn is None else maze.render(walk.pose, walk.target)
        oracle = None
        if recipe.has_context:
            later = slice(walk.n_context, None)
            known = maze.render(oracle_poses(walk.pose, walk.n_context)[later], walk.target[later])
            oracle = np.concatenate([frames[: walk.n_context], known])
        return dress(recipe, maze.world, walk, frames, oracle)
