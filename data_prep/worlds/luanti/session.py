"""Records a walk of the policies of `data_prep.worlds.voxel`."""

from collections.abc import Iterable
from itertools import cycle, islice

import numpy as np

from data_prep.worlds.luanti.display import LuantiError
from data_prep.worlds.luanti.engine import Engine, Seen
from data_prep.worlds.luanti.recipe import Recipe
from data_prep.worlds.recipe import PROTOCOLS, SPLITS
from data_prep.worlds.voxel import policy
from data_prep.worlds.voxel.episodes import VoxelEpisode
from data_prep.worlds.voxel.motion import Action
from data_prep.worlds.voxel.protocols import Walk, is_blocked

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
      LuantiError: the engine failed, or no place was found for the episode.
    """
    split, protocol = SPLITS.index(recipe.split), PROTOCOLS.index(recipe.protocol)
    rng = np.random.default_rng((recipe.seed, split, protocol, index))
    reason = ""
    for _ in range(_PLACES):
        place, actions = int(rng.integers(2**31)), tuple(_actions(recipe, rng))
        for _ in range(_ATTEMPTS):
            engine.reset(place)
            still, seen = _wait_for_terrain(engine)
            if not still and recipe.protocol != "train":  # training walks see new terrain anyway
                reason = "the picture did not stand still"
                break
            episode = _walk(recipe, engine, seen, actions)
            if episode is None:
                reason = "blocks are in the way"
                break
            if recipe.protocol != "rotate" or _repeats(episode):
                return episode
            reason = "terrain kept arriving late"
    raise LuantiError(
        f"episode {index}: no {recipe.protocol} walk at {_PLACES} places, at the last one because {reason}"
    )


def _actions(recipe: Recipe, rng: np.random.Generator) -> Iterable[Action]:
    """The actions of an episode, those of the voxel landscape, but that training rotations turn one way only."""
    n_context = recipe.num_context if recipe.has_context else None
    if recipe.protocol == "train":
        actions = policy.random_actions(rng, recipe.turns)
    elif recipe.protocol == "rotate":
        actions = cycle(policy.rotation(policy.random_side(rng)))
    elif recipe.protocol == "return":
        actions = policy.out_and_back(rng, recipe.way_out)
    elif n_context is None:
        actions = cycle(policy.random_pattern(rng))
    else:
        actions = cycle(policy.random_loop(rng, n_context - 1))
    return islice(actions, recipe.num_frames - 1)


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


def _walk(recipe: Recipe, engine: Engine, seen: Seen, actions: Iterable[Action]) -> VoxelEpisode | None:
    """The recorded walk; None if a block stopped a step, which is allowed in training walks only."""
    poses, frames, done = [seen.pose], [seen.frame], [Action()]
    for action in actions:
        before, seen = seen, engine.step(action)
        if recipe.protocol != "train":
            moved = np.hypot(seen.pose[0] - before.pose[0], seen.pose[2] - before.pose[2])
            if is_blocked(moved, action, _TOLERANCE):
                return None
        poses.append(seen.pose)
        frames.append(seen.frame)
        done.append(action)
    n_context = recipe.num_context if recipe.has_context else None
    walk = Walk(np.array(poses, np.float64), np.array(done, np.int64), n_context)
    return VoxelEpisode(walk, np.stack(frames), None)
