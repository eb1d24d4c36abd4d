"""Which frames a bank keeps and reads, against lists in plain Python."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import ConfigError, MemoryConfig, ModelConfig
from rad_jax.model import addressing
from rad_jax.model.addressing import Mark
from tests.toy_model import LATENT

CAPACITY, FRAMES = 4, 30
KEEPS = {
    "newest": {},
    "all": {},
    "novel": {"novelty": 0.8},
    "pose-bin": {"radius": 0.9},
    "pose-first": {"radius": 0.9},
    "unseen": {"unseen": 0.4},
}
READS = ("all", "pose", "embedding", "view-overlap", "auto")


def settings(**changes) -> MemoryConfig:
    return MemoryConfig(kind="bank", capacity=CAPACITY, retrieved=3, view_range=1.5, **changes)


def model(memory: MemoryConfig) -> ModelConfig:
    return ModelConfig(
        latent=LATENT, action_dim=6, pose=(2, 1), width=16, heads=2, dtype="float64", memory=memory
    )


def clip(seed: int = 0, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """Latents and conditions of a walk that comes back to where it was: two actions, a position, a heading."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-0.2, 0.2, size=(7, 2))
    visits = rng.integers(7, size=frames)
    heading = rng.integers(6, size=frames) * 2 * math.pi / 6 + 0.01 * rng.normal(size=frames)
    pose = np.concatenate([places[visits], np.cos(heading)[:, None], np.sin(heading)[:, None]], axis=1)
    actions = np.concatenate([rng.normal(size=(frames, 2)), pose], axis=1)
    return rng.normal(size=(frames, *LATENT)) + 3 * rng.normal(size=(7, *LATENT))[visits], actions


def marks_of(config: ModelConfig, frames, actions) -> Mark:
    return addressing.mark(config, jnp.asarray(frames), jnp.asarray(actions))


def cosine(a, b) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


class Literal:
    """A bank as a list of slots: None, or (record, stamp, pose, look)."""

    def __init__(self, memory: MemoryConfig):
        self.memory, self.slots, self.seen, self.kept = memory, [None] * CAPACITY, 0, 0

    def slot(self, pose, look) -> int | None:
        held = [i for i, slot in enumerate(self.slots) if slot]
        if self.memory.keep == "all":
            return self.seen if self.seen < CAPACITY else None
        if self.memory.keep == "newest":
            return self.seen % CAPACITY
        if self.memory.keep == "novel":
            if any(cosine(self.slots[i][3], look) >= self.memory.novelty for i in held):
                return None
            return self.kept % CAPACITY
        if self.memory.keep == "unseen":
            points = self.points(pose)
            new = [p for p in points if not any(self.sees(self.slots[i][2], p) for i in held)]
            return self.kept % CAPACITY if len(new) / len(points) > self.memory.unseen else None
        near = sorted((np.linalg.norm(self.slots[i][2] - pose), i) for i in held)
        if near and near[0][0] < self.memory.radius:
            return near[0][1] if self.memory.keep == "pose-bin" else None
        free = [i for i, slot in enumerate(self.slots) if slot is None]
        return free[0] if free else min(held, key=lambda i: self.slots[i][1])

    def write(self, pose, look) -> None:
        slot = self.slot(pose, look)
        self.seen += 1
        if slot is not None:
            self.kept += 1
            self.slots[slot] = (self.seen, self.seen, pose, look)

    def read(self, pose) -> list[int]:
        """The records in the order in which they are read."""
        held = [slot for slot in self.slots if slot]
        how = {"auto": "pose"}.get(self.memory.read, self.memory.read)
        if how == "all" or not held:
            return [slot[0] for slot in held]
        if how == "pose":
            held.sort(key=lambda slot: np.linalg.norm(slot[2] - pose))
        elif how == "embedding":
            newest = max(held, key=lambda slot: slot[1])
            held.sort(key=lambda slot: -cosine(slot[3], newest[3]))
        else:
            held = self.covering(held, pose)
        return [slot[0] for slot in held[:3]]

    def points(self, pose) -> list[tuple[float, float]]:
        half, heading = math.radians(self.memory.view_angle) / 2, math.atan2(pose[3], pose[2])
        points = []
        for ray in range(7):
            for depth in range(1, 7):
                angle, far = heading + half * (ray / 3 - 1), self.memory.view_range * depth / 6
                points.append((pose[0] + far * math.cos(angle), pose[1] + far * math.sin(angle)))
        return points

    def sees(self, other, point) -> bool:
        half, reach = math.radians(self.memory.view_angle) / 2, self.memory.view_range
        x, y = point[0] - other[0], point[1] - other[1]
        turn = math.atan2(y, x) - math.atan2(other[3], other[2])
        turn = abs((turn + math.pi) % (2 * math.pi) - math.pi)
        return math.hypot(x, y) <= reach * 1.0001 and (turn <= half + 2e-4 or math.hypot(x, y) < 1e-3)

    def covering(self, held, pose) -> list:
        chosen, unseen = [], self.points(pose)
        while held and len(chosen) < 3:

            def gain(slot, unseen=unseen):
                apart = ((slot[2] - pose) ** 2).sum()
                return sum(self.sees(slot[2], point) for point in unseen) + 0.5 / (1 + apart)

            best = max(held, key=gain)
            chosen.append(best)
            held = [slot for slot in held if slot is not best]
            unseen = [point for point in unseen if not self.sees(best[2], point)]
        return chosen


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("keep", KEEPS)
def test_slots_and_readings_are_those_of_a_list(keep, read, float64):
    memory = settings(keep=keep, read=read, **KEEPS[keep])
    config = model(memory)
    frames, actions = clip()
    marks = marks_of(config, frames, actions)
    assert (
        np.abs(marks.pose[:, :2] - 4 * actions[:, 2:4]).max() < 1e-12
    )  # weighted positions, then the heading
    empty = addressing.empty_slots(config, 1)
    before, after = jax.jit(addressing.fill, static_argnums=(0, 3))(
        memory, empty, jax.tree.map(lambda m: m[None], marks), 0
    )
    choose = jax.jit(jax.vmap(lambda slots, mark: addressing.choose(memory, slots, mark)))
    reading = choose(jax.tree.map(lambda s: s[0], before), marks)
    literal = Literal(memory)
    for t in range(FRAMES):
        pose, look = np.asarray(marks.pose[t]), np.asarray(marks.look[t])
        assert before.record[0, t].tolist() == [slot[0] if slot else 0 for slot in literal.slots]
        found = [int(r) + 1 for r, valid in zip(reading.record[t], reading.valid[t]) if valid]
        assert found == literal.read(pose)
        literal.write(pose, look)
    assert after.stamp[0].tolist() == [slot[1] if slot else 0 for slot in literal.slots]
    assert any(literal.slots) and literal.seen == FRAMES
    held = {keep: len(set(map(tuple, np.asarray(before.record[0]))))}
    assert held[keep] > CAPACITY  # slots were given away, or filled one after another


@pytest.mark.parametrize("keep", ["novel", "pose-bin", "pose-first", "unseen"])
def test_standing_still_fills_one_slot(keep, float64):
    memory = settings(keep=keep)
    config = model(memory)
    frames, actions = (np.repeat(x[:1], 500, axis=0)[None] for x in clip())
    _, after = addressing.fill(
        memory, addressing.empty_slots(config, 1), marks_of(config, frames, actions), 0
    )
    assert (after.record[0] > 0).sum() == 1 and after.kept[0] == 1 and after.seen[0] == 500
    assert after.stamp[0].max() == (500 if keep == "pose-bin" else 1)


@pytest.mark.parametrize("read", READS)
def test_later_frames_change_nothing_that_was_read(read, float64):
    memory = settings(keep="pose-bin", radius=0.9, read=read)
    config = model(memory)
    frames, actions = clip()
    other = np.random.default_rng(1).permutation(FRAMES - 12) + 12
    order = np.concatenate([np.arange(12), other])

    def read_all(frames, actions):
        marks = jax.tree.map(lambda m: m[None], marks_of(config, frames, actions))
        before, _ = addressing.fill(memory, addressing.empty_slots(config, 1), marks, 0)
        return jax.vmap(lambda s, m: addressing.choose(memory, s, m))(
            *jax.tree.map(lambda x: x[0], (before, marks))
        )

    first, second = read_all(frames, actions), read_all(frames[order], actions[order])
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second)):
        np.testing.assert_array_equal(a[:12], b[:12])
    assert np.any(first.record[12:] != second.record[12:]) or read == "all"


def test_a_relative_pose_is_the_same_wherever_the_world_lies(float64):
    """But for the differences and the heading in the world, which are given too: columns 0, 1 and the last two."""
    _, actions = clip()
    pose = actions[:6, 2:]
    angle = 0.7
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    moved = np.concatenate([pose[:, :2] @ turn.T + [0.3, -2.0], pose[:, 2:] @ turn.T], axis=1)
    here, there = (
        np.asarray(addressing.relative_pose(jnp.asarray(p), jnp.asarray(p[0]))) for p in (pose, moved)
    )
    np.testing.assert_allclose(here[:, 2:-2], there[:, 2:-2], atol=1e-12)
    assert np.abs(here - there).max() > 0.1
    np.testing.assert_allclose(here[0, 2:11], [0, 1, 0, 1, 0, 1, 0, 0, 0], atol=1e-12)
    turned = np.arctan2(pose[:, 3], pose[:, 2]) - math.atan2(pose[0, 3], pose[0, 2])
    for column, multiple in ((3, 1), (5, 2), (7, 4)):
        np.testing.assert_allclose(here[:, column], np.cos(multiple * turned), atol=1e-12)
        np.testing.assert_allclose(here[:, column + 1], np.sin(multiple * turned), atol=1e-12)


def test_what_a_bank_cannot_do_is_named():
    memory = settings()
    for changes, words in (
        ({"retrieved": 9}, "memory.retrieved=9: expected at most memory.capacity"),
        ({"bptt": "truncated"}, "memory.bptt=truncated: memory.kind=bank has no recurrence"),
        ({"window": "rollout"}, "memory.kind=bank: .* as in bank-f"),
    ):
        with pytest.raises(ConfigError, match=words):
            model(dataclasses.replace(memory, **changes))
    for key in ("keep", "read"):
        blind = dataclasses.replace(memory, **{key: "pose" if key == "read" else "pose-bin"})
        with pytest.raises(ConfigError, match=f"memory.{key}=pose.*data.condition=action\\+pose"):
            dataclasses.replace(model(memory), pose=(0, 0), memory=blind)
    with pytest.raises(ConfigError, match=r"model.pose=\(5,1\): has 7 columns"):
        dataclasses.replace(model(memory), pose=(5, 1))


def test_the_plane_comes_first_and_headings_grow_to_the_left():
    """Minecraft's: x, height, z, pitch; yaw 0 looks to z, and a yaw of 90 degrees, to the right, against x."""
    rng, yaw = np.random.default_rng(0), math.radians(30)
    config = ModelConfig(
        latent=LATENT,
        action_dim=8,
        pose=(4, 1),
        plane=(3, -1),
        width=16,
        heads=2,
        memory=settings(position_weight=2.0),
    )
    x, y, z, pitch = rng.normal(size=4)
    condition = jnp.asarray([0.0, 0.0, x, y, z, pitch, math.cos(yaw), math.sin(yaw)])
    pose = addressing.pose_of(config, condition)
    np.testing.assert_allclose(
        pose, [2 * z, 2 * x, 2 * y, 2 * pitch, math.cos(yaw), -math.sin(yaw)], rtol=1e-6
    )
    ahead = condition.at[2].add(-math.sin(yaw)).at[4].add(math.cos(yaw))  # a step where it looks
    relative = addressing.relative_pose(addressing.pose_of(config, ahead)[None], pose)[0]
    np.testing.assert_allclose(relative[-4:-2], [2, 0], atol=1e-6)  # ahead and to the left
