"""Records a walk of the policies of `data_prep.worlds.voxel`."""

import numpy as np

from data_prep.worlds.luanti.display import LuantiError
from data_prep.worlds.luanti.engine import Engine, Seen
from data_prep.worlds.luanti.recipe import Recipe
from data_prep.worlds.voxel import policy
from data_prep.worlds.voxel.episodes import VoxelEpisode
from data_prep.worlds.voxel.protocols import draw_actions, follow

_PLACES = 40  # that are tried for one episode
_ATTEMPTS = 3  # at one place: terrain that arrived late in one attempt is there in the next
_REVOLUTIONS = 24  # at most, until the terrain is complete
_REPEATED = 4  # equal revolutions; one is not enough, because terrain arrives in batches
_TOLERANCE = 1e-3  # blocks: the engine rounds positions


def record(recipe: Recipe, index: int, engine: Engine) -> VoxelEpisode:
    """Record one episode. The places that are tried and the actions are a function of the recipe and its index.

    The frames are not: where the engine plants a tree depends on the order in which it made the terrain, and on long walks the
    time at which far terrain arrives varies. Training rotations turn one way only.

    Raises:
      LuantiError: the engine failed, or no place was found for the episode.
    """
    rng = recipe.generator(index)
    reason = ""
    for _ in range(_PLACES):
        place, wanted = int(rng.integers(2**31)), list(draw_actions(rng, recipe))
        for _ in range(_ATTEMPTS):
            engine.reset(place)
            still, seen = _wait_for_terrain(engine)
            if not still and recipe.protocol != "train":  # training walks see new terrain anyway
                reason = "the picture did not stand still"
                break
            followed = follow(recipe, seen, wanted, lambda _, action: engine.step(action), _TOLERANCE)
            if followed is None:
                reason = "blocks are in the way"
                break
            walk, views = followed
            episode = VoxelEpisode(walk, np.stack([view.frame for view in views]), None)
            if recipe.protocol != "rotate" or _repeats(episode):
                return episode
            reason = "terrain kept arriving late"
    raise LuantiError(
        f"episode {index}: no {recipe.protocol} walk at {_PLACES} places, at the last one because {reason}"
    )


def _wait_for_terrain(engine: Engine) -> tuple[bool, Seen]:
    """Turn until revolutions repeat bit for bit, which says that no terrain is missing and nothing in sight moves.

    Returns whether they did, and what is seen now.
    """
    before, repeated = None, 0
    for _ in range(_REVOLUTIONS):
        views = []
        for action in policy.rotation(1):
            seen = engine.step(action)
            views.append(seen.frame)
        repeated = repeated + 1 if before is not None and np.array_equal(views, before) else 0
        if repeated == _REPEATED:
            return True, seen
        before = views
    return False, seen


def _repeats(episode: VoxelEpisode) -> bool:
    """Whether equal poses have equal pictures. On a busy machine terrain can arrive even after revolutions that repeated."""
    seen: dict[bytes, np.ndarray] = {}
    pairs = zip(episode.walk.pose, episode.frames, strict=True)
    return all(np.array_equal(frame, seen.setdefault(pose.tobytes(), frame)) for pose, frame in pairs)
