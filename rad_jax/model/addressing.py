"""Which frames a bank keeps, and which of them a frame reads: pure functions of what is known about frames, never of their
content in the network.

    place(slots, frame)    -> the slot that a new frame takes, or -1
    choose(slots, frame)   -> the slots that a frame reads, and where they are seen from

A training runs them over a clip as one scan of a few numbers per frame, a rollout frame by frame: the same functions, so both
read the same frames. Nothing here has a gradient but the relative pose.

A frame is known by its `Mark`: its pose as a vector whose Euclidean distances count (weighted scaled positions, then cosine and
sine of the heading), and its look (mean latents of its four quarters).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce

from rad_jax.axes import Array, Bool, Float, Int
from rad_jax.config import MemoryConfig, ModelConfig

DOUBLINGS = 3  # a reader is given cosine and sine of the turn, twice and four times the turn
VIEW_RAYS, VIEW_DEPTHS = 7, 6  # points of what a frame sees


class Mark(NamedTuple):
    """What is known about a frame: its pose (empty if the model is not given it) and its look."""

    pose: Float[Array, "*b p"]
    look: Float[Array, "*b m"]


class Slots(NamedTuple):
    """What a bank knows about the frames it keeps. Zero is empty.

    Attributes:
      record: place of the frame's record on the tape, counted from 1; 0 where the slot is empty.
      stamp: number of the frame, counted from 1.
      mark: what is known about it.
      seen: frames that have passed so far.
      kept: slots that were given to new frames so far.
    """

    record: Int[Array, "*b c"]
    stamp: Int[Array, "*b c"]
    mark: Mark
    seen: Int[Array, "*b"]
    kept: Int[Array, "*b"]


class Reading(NamedTuple):
    """What a frame reads of a bank.

    Attributes:
      record: places on the tape, from 0.
      valid: whether there is something.
      pose: how it was seen, see `relative_pose`.
      apart: squared distance of the poses; 0 where the model is not given the pose.
    """

    record: Int[Array, "*b r"]
    valid: Bool[Array, "*b r"]
    pose: Float[Array, "*b r x"]
    apart: Float[Array, "*b r"]


def pose_of(config: ModelConfig, actions: Float[Array, "*b a"]) -> Float[Array, "*b p"]:
    """Weighted scaled positions, then cosine and sine of the heading, from conditions; empty if they hold no pose.

    The first two positions are those of ``model.plane``, and headings grow to the left: heading 0 looks along the first one, a
    right angle along the second.
    """
    if not config.heading_at:
        return jnp.zeros((*actions.shape[:-1], 0), config.state_dtype)
    position, heading = config.heading_at
    places = config.memory.position_weight * actions[..., position:heading]
    turn = actions[..., heading : heading + 2]
    if config.plane:
        plane = np.abs(config.plane) - 1
        others = np.setdiff1d(np.arange(heading - position), plane)
        places = places[..., np.concatenate([plane, others])]
        turn = turn * np.array([1, np.sign(config.plane[1])])
    return jnp.concatenate([places, turn], axis=-1).astype(config.state_dtype)


def mark(config: ModelConfig, frames: Float[Array, "*b rows cols ch"], actions: Float[Array, "*b a"]) -> Mark:
    """What is known about frames, from their latents and conditions, in the precision of states."""
    dtype, pose = config.state_dtype, pose_of(config, actions)
    rows, columns = frames.shape[-3:-1]
    frames = frames.astype(dtype)
    if rows < 2 or columns < 2:
        look = reduce(frames, "... rows cols ch -> ... ch", "mean")
    else:
        even = frames[..., : rows // 2 * 2, : columns // 2 * 2, :]
        look = reduce(even, "... (i p) (j q) ch -> ... i j ch", "mean", i=2, j=2)
        look = rearrange(look, "... i j ch -> ... (i j ch)")
    return Mark(pose, jax.lax.stop_gradient(look))


def empty_slots(config: ModelConfig, batch: int) -> Slots:
    """Of banks that have seen nothing."""
    latent = jnp.zeros((batch, config.memory.capacity, *config.latent))
    marks = jax.eval_shape(
        lambda f: mark(config, f, jnp.zeros((*f.shape[:2], config.action_dim or 0))), latent
    )
    marks = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), marks)
    none = jnp.zeros((batch, config.memory.capacity), jnp.int32)
    count = jnp.zeros((batch,), jnp.int32)
    return Slots(none, none, marks, count, count)


def place(memory: MemoryConfig, slots: Slots, new: Mark) -> Int[Array, ""]:
    """The slot that a new frame of one video takes, or -1 if it is not kept; see `MemoryConfig.keeps`."""
    capacity, held = memory.capacity, slots.record > 0
    match memory.keeps:
        case "all":
            return jnp.where(slots.seen < capacity, slots.seen, -1)
        case "newest":
            return slots.seen % capacity
        case "novel":
            known = jnp.any(held & (cosine(slots.mark.look, new.look) >= memory.novelty))
            return jnp.where(known, -1, slots.kept % capacity)
        case "unseen":
            points = _points(memory, new.pose)
            seen = jnp.any(_seen_by(memory, slots, points), axis=0)
            return jnp.where((~seen).mean() > memory.unseen, slots.kept % capacity, -1)
    slot, known = by_pose(memory, held, slots.stamp, slots.mark.pose, new.pose)
    return jnp.where(known & (memory.keeps == "pose-first"), -1, slot)


def by_pose(
    memory: MemoryConfig,
    held: Bool[Array, "c"],
    stamp: Int[Array, "c"],
    poses: Float[Array, "c p"],
    new: Float[Array, "p"],
) -> tuple[Int[Array, ""], Bool[Array, ""]]:
    """The slot of a frame at ``new``, and whether the slot has that pose already, which is less than ``memory.radius`` away.

    That is the nearest one. Otherwise it is the first free slot, or the one that was written longest ago.
    """
    apart = jnp.where(held, squared_distance(poses, new), jnp.inf)
    nearest = jnp.argmin(apart)
    oldest = jnp.argmin(jnp.where(held, stamp, jnp.iinfo(jnp.int32).max))
    known = apart[nearest] < memory.radius**2
    return jnp.where(known, nearest, jnp.where(held.all(), oldest, jnp.argmin(held))), known


def write(memory: MemoryConfig, slots: Slots, new: Mark, record: Int[Array, ""]) -> Slots:
    """The slots of one video after a new frame, whose record is the ``record``-th of the tape, counted from 1."""
    slot = place(memory, slots, new)
    here = jnp.arange(memory.capacity) == slot

    def put(old: Array, value: Array) -> Array:
        return jnp.where(here.reshape(-1, *[1] * (old.ndim - 1)), value, old)

    fresh = jnp.any(here & (slots.record == 0)) | ((slot >= 0) & (memory.keeps in ("novel", "unseen")))
    marks = jax.tree.map(put, slots.mark, new)
    return Slots(
        put(slots.record, record),
        put(slots.stamp, slots.seen + 1),
        marks,
        slots.seen + 1,
        slots.kept + fresh,
    )


def fill(memory: MemoryConfig, slots: Slots, marks: Mark, records: int) -> tuple[Slots, Slots]:
    """The slots of all videos before every frame, (b, t, ...), and after all of them.

    Args:
      marks: of the frames, (b, t, ...).
      records: on the tape before the first frame; that of frame i is the next but i.
    """
    count = marks.pose.shape[1]

    def of_video(slots: Slots, marks: Mark) -> tuple[Slots, Slots]:
        def body(slots: Slots, frame: tuple[Mark, Array]) -> tuple[Slots, Slots]:
            new, record = frame
            return write(memory, slots, new, record), slots

        return jax.lax.scan(body, slots, (marks, records + 1 + jnp.arange(count, dtype=jnp.int32)))

    after, before = jax.vmap(of_video)(slots, marks)
    return before, after


def choose(memory: MemoryConfig, slots: Slots, frame: Mark) -> Reading:
    """What one frame of one video reads; see `MemoryConfig.reads`. Slots of equal merit are read in their order."""
    held = slots.record > 0
    how = memory.reads if memory.reads != "auto" else "pose" if frame.pose.shape[-1] else "embedding"
    if how == "all":
        chosen = jnp.arange(memory.capacity)
    elif how == "view-overlap":
        chosen = _covering(memory, slots, frame.pose)
    else:
        if how == "pose":
            merit = -squared_distance(slots.mark.pose, frame.pose)
        else:
            newest = slots.mark.look[jnp.argmax(slots.stamp)]
            merit = cosine(slots.mark.look, newest)
        _, chosen = jax.lax.top_k(jnp.where(held, merit, -jnp.inf), memory.retrieved)
    chosen = jax.lax.stop_gradient(chosen)
    pose = slots.mark.pose[chosen]
    apart = squared_distance(pose, frame.pose)
    record = jnp.maximum(slots.record[chosen] - 1, 0)
    return Reading(record, held[chosen], relative_pose(pose, frame.pose), apart)


def relative_pose(pose: Float[Array, "r p"], frame: Float[Array, "p"]) -> Float[Array, "r x"]:
    """Where frames were seen from, as a frame at ``frame`` sees it: what a reader needs to find its own view in theirs.

    The difference of positions, its square, cosine and sine of the turn and its doubles; then, in a plane, the difference
    ahead and to the left, and the own heading, from which other conventions of the heading can be learned.
    """
    if not frame.shape[-1]:
        return jnp.zeros((pose.shape[0], 0), pose.dtype)
    there, turn_there = jnp.split(pose, [pose.shape[-1] - 2], axis=-1)
    here, heading = jnp.split(frame, [frame.shape[-1] - 2])
    cos = turn_there @ heading
    sin = turn_there[:, 1] * heading[0] - turn_there[:, 0] * heading[1]
    apart = there - here
    features = [apart, jnp.square(apart).sum(-1, keepdims=True)]
    for _ in range(DOUBLINGS):
        features.append(jnp.stack([cos, sin], axis=-1))
        cos, sin = cos * cos - sin * sin, 2 * cos * sin  # of twice the turn
    if there.shape[-1] >= 2:
        x, y = apart[:, 0], apart[:, 1]
        ahead = jnp.stack([x * heading[0] + y * heading[1], y * heading[0] - x * heading[1]], axis=-1)
        features += [ahead, jnp.broadcast_to(heading, (pose.shape[0], 2))]
    return jnp.concatenate(features, axis=-1)


def squared_distance(a: Float[Array, "*b p"], b: Float[Array, "p"]) -> Float[Array, "*b"]:
    return jnp.square(a - b).sum(-1)


def cosine(a: Float[Array, "*b m"], b: Float[Array, "m"]) -> Float[Array, "*b"]:
    """Of the angle between vectors; 0 where one is zero."""
    norms = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b)
    return jnp.where(norms > 0, (a @ b) / jnp.where(norms > 0, norms, 1), 0)


def _covering(memory: MemoryConfig, slots: Slots, pose: Float[Array, "p"]) -> Int[Array, "r"]:
    """The slots that together see most of what a frame at ``pose`` sees, one after another, each for what is still unseen.

    What a frame sees are points on `VIEW_RAYS` rays at `VIEW_DEPTHS` depths, in the plane in which it turns;
    nothing hides them. Slots that see equally much are told apart by their distance in pose.
    """
    points = _points(memory, pose)
    held, sees = slots.record > 0, _seen_by(memory, slots, points)
    nearness = 1 / (1 + squared_distance(slots.mark.pose, pose))  # in (0, 1]: less than a point counts

    def pick(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        unseen, free = carry
        gain = (sees & unseen).sum(-1) + 0.5 * nearness
        best = jnp.argmax(jnp.where(free, gain, -jnp.inf))
        return (unseen & ~sees[best], free.at[best].set(False)), best

    start = jnp.ones(len(points), bool), held
    _, chosen = jax.lax.scan(pick, start, length=memory.retrieved)
    # Where fewer are held than are read, `pick` repeats the first slot, which is read once.
    fresh = jnp.arange(memory.retrieved) < held.sum()
    free = jnp.argmin(held)
    return jnp.where(fresh, chosen, free)


def _points(memory: MemoryConfig, pose: Float[Array, "p"]) -> Float[Array, "z 2"]:
    """Points that a frame sees, in the plane it turns in."""
    angles = np.linspace(-0.5, 0.5, VIEW_RAYS) * math.radians(memory.view_angle)
    depths = memory.view_range * np.arange(1, VIEW_DEPTHS + 1) / VIEW_DEPTHS
    cos, sin = pose[-2], pose[-1]
    ahead = np.outer(np.cos(angles), depths).ravel(), np.outer(np.sin(angles), depths).ravel()
    turned = jnp.stack([cos * ahead[0] - sin * ahead[1], sin * ahead[0] + cos * ahead[1]], axis=-1)
    return _place(pose) + turned


def _seen_by(memory: MemoryConfig, slots: Slots, points: Float[Array, "z 2"]) -> Bool[Array, "c z"]:
    """Which points every slot's frame sees; an empty slot sees none."""
    sees = jax.vmap(lambda viewer: _sees(memory, viewer, points))(slots.mark.pose)
    return sees & (slots.record > 0)[:, None]


def _sees(memory: MemoryConfig, pose: Float[Array, "p"], points: Float[Array, "z 2"]) -> Bool[Array, "z"]:
    offset = points - _place(pose)
    far = jnp.linalg.norm(offset, axis=-1)
    ahead = offset @ pose[-2:]
    edge = math.cos(math.radians(memory.view_angle) / 2)
    slack = 1e-4 * memory.view_range  # the rim belongs to the view, however it is rounded
    return (far <= memory.view_range + slack) & (ahead >= edge * far - slack)


def _place(pose: Float[Array, "p"]) -> Float[Array, "2"]:
    """Where in the plane; the origin where a world has fewer than two positions."""
    return pose[:2] if pose.shape[-1] >= 4 else jnp.zeros(2, pose.dtype)
