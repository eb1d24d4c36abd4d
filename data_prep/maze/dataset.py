"""From a recipe to episodes: worlds, walks, frames, observations, oracle, in the form in which they are stored."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from data_prep.maze import protocols, render
from data_prep.maze.motion import ACTIONS
from data_prep.maze.oracle import oracle_poses
from data_prep.maze.protocols import NoWalkError, Walk
from data_prep.maze.recipe import SPLIT_OFFSETS, Recipe, RecipeError
from data_prep.maze.world import World, maze_world, room_world, stack
from rad_jax.data.episodes import Episode, EpisodeSpec

CHUNK = 20  # frames per record
SHORT = 32  # an episode up to this long is one record
_RENDERED_BYTES = 2**26  # frames are rendered in lots of about this size
_TRIES = 1000


def episode_spec(recipe: Recipe, info: dict[str, Any] | None = None) -> EpisodeSpec:
    """The schema of the recipe's episodes; ``info`` is added to what the recipe says about itself.

    Per frame, beside frames, actions (one-hot) and pose, the observations of Memory Maze under their names
    there: agent_pos and agent_dir (the pose again), target_pos, target_color, and targets_vec, target_vec,
    which point to the targets as the agent sees them, (to its right, ahead), in cells. Per episode
    maze_layout, targets_pos and what else the world consists of (see ``world_of``), and for evaluations
    n_context and path, padded with -1.
    """
    world = _draw_world(np.random.default_rng(0), recipe)
    outer, targets = len(world.wall), len(world.targets)
    image = ((recipe.pixels, recipe.pixels, 3), "uint8")
    arrays = {
        "frames": image,
        "actions": ((len(ACTIONS),), "float32"),
        "pose": ((4,), "float32"),
        "reward": ((), "float32"),
        "target": ((), "int32"),
        "agent_pos": ((2,), "float32"),
        "agent_dir": ((2,), "float32"),
        "target_pos": ((2,), "float32"),
        "target_vec": ((2,), "float32"),
        "target_color": ((3,), "float32"),
        "targets_vec": ((targets, 2), "float32"),
    }
    statics = {
        "maze_layout": ((recipe.size, recipe.size), "uint8"),
        "targets_pos": ((targets, 2), "float32"),
        "targets_color": ((targets, 3), "float32"),
        "wall_pattern": ((outer, outer), "uint8"),
        "wall_color": ((outer, outer, 3), "float32"),
        "floor_pattern": ((outer, outer), "uint8"),
    }
    if recipe.has_context:
        arrays["oracle"] = image
        statics["n_context"] = ((), "int32")
        if recipe.protocol != "rotate":
            statics["path"] = ((protocols.longest_path(recipe.max_frames), 2), "int32")
    place = "room" if recipe.room else f"maze_{recipe.size}x{recipe.size}"
    chunk = recipe.num_frames if recipe.num_frames <= SHORT else CHUNK
    return EpisodeSpec(f"{place}_{recipe.protocol}", arrays, statics, _describe(recipe) | (info or {}), chunk)


def make_episodes(recipe: Recipe, indices: range) -> Iterator[Episode]:
    """The episodes of some indices, in order. Each is a function of the recipe and its index alone."""
    lot: list[tuple[World, Walk]] = []
    frame_bytes = 3 * recipe.pixels**2 * (2 if recipe.has_context else 1)
    for index in indices:
        lot.append(draw_walk(recipe, index))
        if sum(len(walk.pose) for _, walk in lot) * frame_bytes >= _RENDERED_BYTES:
            yield from _finish(recipe, lot)
            lot = []
    yield from _finish(recipe, lot)


def world_of(episode: Episode) -> World:
    """The world of an episode that was read back, to render it again from other poses."""
    return World(
        wall=np.pad(1 - episode["maze_layout"], 1, constant_values=1).astype(np.uint8),
        wall_pattern=episode["wall_pattern"],
        wall_colour=episode["wall_color"],
        floor_pattern=episode["floor_pattern"],
        targets=episode["targets_pos"],
        target_colour=episode["targets_color"],
    )


def _describe(recipe: Recipe) -> dict[str, Any]:
    cells = 1 / recipe.size
    return {
        "source": "ray-cast Memory Maze",
        "actions": list(ACTIONS),
        "pose": ["x", "y", "cos", "sin"],
        "pose_scale": [cells, cells, 1.0, 1.0],
        "fps": 4,
        **recipe.as_info(),
    }


def _draw_world(rng: np.random.Generator, recipe: Recipe) -> World:
    return room_world(rng) if recipe.room else maze_world(rng, recipe.size)


def draw_walk(recipe: Recipe, index: int) -> tuple[World, Walk]:
    """World and walk of one episode; a world that has no walk of the protocol is replaced by another."""
    rng = np.random.default_rng((recipe.seed, SPLIT_OFFSETS[recipe.split], index))
    walk_of = _walker(recipe)
    for _ in range(_TRIES):
        world = _draw_world(rng, recipe)
        try:
            return world, walk_of(rng, world)
        except NoWalkError as error:
            reason = error
    raise RecipeError(
        f"episode {index}: no {recipe.protocol} walk in {_TRIES} mazes, in the last one because {reason}"
    )


def _walker(recipe: Recipe) -> Callable[[np.random.Generator, World], Walk]:
    if recipe.protocol == "train":
        return lambda rng, world: protocols.train_walk(rng, world, recipe.num_frames)
    if recipe.protocol == "rotate":
        return lambda rng, world: protocols.rotate_walk(
            rng,
            world,
            frames=recipe.num_frames,
            period=recipe.period,
            n_context=recipe.num_context if recipe.has_context else None,
            turn_degrees=recipe.exact_turn,
            centred=recipe.room,
        )
    walk = protocols.return_walk if recipe.protocol == "return" else protocols.loop_walk
    return lambda rng, world: walk(rng, world, recipe.min_frames, recipe.max_frames, recipe.look_around)


def _finish(recipe: Recipe, lot: list[tuple[World, Walk]]) -> Iterator[Episode]:
    """Render a lot of walks together and dress them as episodes."""
    if not lot:
        return
    frames = _render_walks(recipe, lot, [walk.pose for _, walk in lot])
    episodes = [_observations(world, walk) for world, walk in lot]
    if recipe.has_context:
        poses = [oracle_poses(walk.pose, walk.n_context) for _, walk in lot]
        oracles = _render_walks(recipe, lot, poses)
    for number, (episode, (_, walk)) in enumerate(zip(episodes, lot, strict=True)):
        episode["frames"] = frames[number]
        if recipe.has_context:
            episode["oracle"] = oracles[number]
            episode["n_context"] = np.int32(walk.n_context)
            if recipe.protocol != "rotate":
                episode["path"] = np.full((protocols.longest_path(recipe.max_frames), 2), -1, np.int32)
                episode["path"][: len(walk.path)] = walk.path
        yield episode


def _render_walks(recipe: Recipe, lot: list[tuple[World, Walk]], poses: list[np.ndarray]) -> list[np.ndarray]:
    """The frames of every walk seen from its poses; equal views of one world are rendered once."""
    lengths = [len(pose) for pose in poses]
    world = np.repeat(np.arange(len(lot), dtype=np.int32), lengths)
    target = np.concatenate([walk.target for _, walk in lot])
    if not recipe.has_border:
        target = np.zeros_like(target)  # not seen
    pose = np.concatenate(poses)
    key = np.concatenate([world[:, None], target[:, None], pose.view(np.int32)], axis=1)
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    views = render.render(
        stack([world for world, _ in lot]),
        world[first],
        pose[first],
        target[first],
        pixels=recipe.pixels,
        supersample=recipe.supersample,
        border=recipe.has_border,
    )
    return [views[rows] for rows in np.split(inverse.reshape(-1), np.cumsum(lengths)[:-1])]


def _observations(world: World, walk: Walk) -> Episode:
    """Everything of an episode but its frames and what evaluations add."""
    position, direction = walk.pose[:, :2], walk.pose[:, 2:]
    right = np.stack([direction[:, 1], -direction[:, 0]], axis=1)
    offset = world.targets - position[:, None]
    seen = np.stack([(offset * axis[:, None]).sum(-1) for axis in (right, direction)], axis=-1)
    actions = (walk.action[:, None] == np.arange(len(ACTIONS))).astype(np.float32)
    return {
        "actions": actions,
        "pose": walk.pose,
        "reward": walk.reward,
        "target": walk.target,
        "agent_pos": position,
        "agent_dir": direction,
        "target_pos": world.targets[walk.target],
        "target_vec": seen[np.arange(len(seen)), walk.target],
        "target_color": world.target_colour[walk.target],
        "targets_vec": seen,
        "maze_layout": world.free.astype(np.uint8),
        "targets_pos": world.targets,
        "targets_color": world.target_colour,
        "wall_pattern": world.wall_pattern,
        "wall_color": world.wall_colour,
        "floor_pattern": world.floor_pattern,
    }
