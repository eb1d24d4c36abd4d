"""Records a walk of the policies of `data_prep.worlds.voxel`."""

from functools import partial

import numpy as np

from data_prep.worlds.luanti.engine import Engine
from data_prep.worlds.luanti.recipe import Recipe
from data_prep.worlds.voxel import policy
from data_prep.worlds.voxel.episodes import VoxelEpisode
from data_prep.worlds.voxel.motion import Seen
from data_prep.worlds.voxel.protocols import draw_actions, follow
from data_prep.worlds.walks import NoWalkError, first_walk

_PLACES = 40  # that are tried for one episode
_ATTEMPTS = 3  # at one place: terrain that arrived late in one attempt is there in the next
_REVOLUTIONS = 24  # at most, until the terrain is complete
_REPEATED = 4  # equal revolutions; one is not enough, because terrain arrives in batches
_TOLERANCE = 1e-3  # blocks: the engine rounds positions


def record(recipe: Recipe, index: int, engine: Engine) -> VoxelEpisode:
    """Record one episode. The places that are tried and the actions are a function of the recipe and its index.

    The frames are not: where the engine plants a tree depends on the order in which it made the terrain, and on long walks the
    time at which far terrain arrives varies.

    Raises:
      LuantiError: the engine failed.
      RecipeError: no place was found for the episode.
    """
    _, episode = first_walk(
        recipe, index, lambda rng: int(rng.integers(2**31)), partial(_episode_at, engine), _PLACES
    )
    return episode


def _episode_at(engine: Engine, rng: np.random.Generator, place: int, recipe: Recipe) -> VoxelEpisode:
    actions = list(draw_actions(rng, recipe))
    for _ in range(_ATTEMPTS):
        engine.reset(place)
        still, seen = _wait_for_terrain(engine)
        if not still and recipe.protocol != "train":  # training walks see new terrain anyway
            raise NoWalkError("the picture did not stand still")
        followed = follow(recipe, seen, actions, lambda _, action: engine.step(action), _TOLERANCE)
        if followed is None:
            raise NoWalkError("blocks are in the way")
        walk, views = followed
        episode = VoxelEpisode(walk, np.stack([view.frame for view in views]), None)
        if recipe.protocol != "rotate" or _repeats(episode):
            return episode
    raise NoWalkError("terrain kept arriving late")


def _wait_for_terrain(engine: Engine) -> tuple[bool, Seen]:
    """Turn until revolutions repeat bit for bit, which says that no terrain is missing and nothing in sight moves.

    Returns whether they did, and what is seen now.
    """
    before, repeated = None, 0
    for _ in range(_REVOLUTIONS):
        revolution = [engine.step(action) for action in policy.rotation(1)]
        views = [seen.frame for seen in revolution]
        repeated = repeated + 1 if before is not None and np.array_equal(views, before) else 0
        if repeated == _REPEATED:
            return True, revolution[-1]
        before = views
    return False, revolution[-1]


def _repeats(episode: VoxelEpisode) -> bool:
    """Whether equal poses have equal pictures. On a busy machine terrain can arrive even after revolutions that repeated."""
    seen: dict[bytes, np.ndarray] = {}
    pairs = zip(episode.walk.pose, episode.frames, strict=True)
    return all(np.array_equal(frame, seen.setdefault(pose.tobytes(), frame)) for pose, frame in pairs)
