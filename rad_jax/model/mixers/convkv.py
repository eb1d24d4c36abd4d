"""Merged frames: keys and values of whole frames, a few slots of them, each a mean of several frames.

The state has constant size; a token of a later frame attends to all tokens of all slots in one softmax, as
`rad_jax.model.mixers.frame_reader` has it. Every frame reads the slots from before it. A slot holds, for keys and values each,

    mean_s = sum_j a_sj (r w_i(j) o K_j) / c_s;    c_s = sum_j a_sj;    K not rotated; r w = 1 except with ``conv``

over frames j, and c enters the logits as + log(c): a slot then counts as much as c equal keys would. Which frames,

    conv      ``memory.slot_frames`` = r consecutive ones, a_sj = 1, and i the place of a frame among them. Keys and values have
              each a w of their own, by feature, that starts at 1/r. Slots are a ring; the newest one is read while it fills,
              which is the mean of what it has, so that no frame waits to be seen. (SoulX-LiveAct, arXiv 2603.11746: "ConvKV";
              its published code merges neighbouring tokens instead of frames.)
    ema       all of them, a_sj = d_s ^ (frames since j), with a learned decay d for each slot. (MemRoPE, arXiv 2603.12513.)
    a pose    with ``memory.align=pose``: those seen from one pose, a_sj = 1: a frame enters the nearest slot that is less than
              ``memory.radius`` away, or a free one, or else that which was written longest ago, which it clears.

Keys are rotated where they are read, by the token's place in the frame. Slots are told apart, with conv and ema, by a learned
code in their keys, of their age (0: still filling) and of their number, never by time; with a pose by where they were seen
from, the mean pose of their frames, relative to the reader's.

No slot is made frame after frame. What is known about the slots after any number of frames gives the a, and those the slots,
as a sum over the frames of a run.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from rad_jax.axes import Array, Float, Int, Key
from rad_jax.config import MemoryConfig
from rad_jax.model.addressing import by_pose, relative_pose, squared_distance
from rad_jax.model.mixers import Walk
from rad_jax.model.mixers.frame_reader import FrameReader, Shown, View


class About(NamedTuple):
    """What is known about slots beside their content. Zero is empty.

    Attributes:
      count: c of every slot, at least float32; 0: the slot is empty.
      seen: frames so far.
      stamp: number of the frame that was last written to a slot, counted from 1 (None: slots have no pose).
      pose: of every slot (None likewise).
    """

    count: Float[Array, "*b c"]
    seen: Int[Array, "*b"]
    stamp: Int[Array, "*b c"] | None
    pose: Float[Array, "*b c p"] | None


class SlotState(NamedTuple):
    """Mean keys and values of slots, not rotated, at least float32, and what is known about them."""

    keys: Float[Array, "*b c n d"]
    values: Float[Array, "*b c n d"]
    about: About


class Step(NamedTuple):
    """From the state before a run to that after some of its frames: ``mean = keep * mean + write @ frames``."""

    keep: Float[Array, "*b c"]
    write: Float[Array, "*b c t"]
    about: About


class ConvKV(FrameReader):
    """See the module docstring."""

    @property
    def bends(self) -> bool:
        return self.config.memory.align == "pose"

    def setup(self):
        super().setup()
        memory, width, dtype = self.config.memory, self.config.width, self.config.state_dtype
        if self.bends:
            return
        self.age = self.param("age", nn.initializers.zeros, (memory.slots, width), dtype)
        if memory.merge == "conv":
            r = memory.slot_frames
            first = nn.initializers.constant(1 / r)
            self.key_share, self.value_share = (
                self.param(name, first, (r, width), dtype) for name in ("key_share", "value_share")
            )
        else:
            self.rate = self.param("rate", first_rates, (memory.slots,), dtype, memory.slot_frames)

    def initial_state(self, batch: int, tokens: int) -> SlotState:
        config, slots, stamp, pose = self.config, self.config.memory.slots, None, None
        content = jnp.zeros((batch, slots, tokens, config.width), config.state_dtype)
        if self.bends:
            stamp = jnp.zeros((batch, slots), jnp.int32)
            pose = jnp.zeros((batch, slots, config.pose[0] + 2), config.state_dtype)
        about = About(content[..., 0, 0], jnp.zeros((batch,), jnp.int32), stamp, pose)
        return SlotState(content, content, about)

    def walk(self, state: SlotState, x: Float[Array, "b t n f"], *pose: Float[Array, "b t p"]) -> Walk:
        length = x.shape[1]
        keys, values = self._frames(state.about.seen, x)
        steps = self._steps(state.about, length, *pose)

        def slots(step: Step) -> SlotState:
            return SlotState(after(step, state.keys, keys), after(step, state.values, values), step.about)

        @jax.checkpoint  # every one is a sum over all frames
        def kept(ends: Int[Array, "b"]) -> SlotState:
            return slots(jax.tree.map(lambda leaf: leaf[:, 0], steps(ends[:, None])))

        def states_at(ends: Int[Array, "b k"]) -> SlotState:
            states = jax.lax.map(kept, jnp.clip(ends, 0, length).T)
            return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), states)

        before = steps(jnp.broadcast_to(jnp.arange(length), x.shape[:2]))
        y = self.read_frames(
            x,
            lambda step: self._show(slots(step)),
            before,
            self._size(state),
            self._view(before.about, *pose),
        )
        return kept(jnp.full(x.shape[0], length)), y, states_at

    def read(
        self, state: SlotState, x: Float[Array, "b t n f"], *pose: Float[Array, "b t p"]
    ) -> Float[Array, "b t n d"]:
        shown, about = self._show(state), jax.tree.map(lambda leaf: leaf[:, None], state.about)
        return self.read_frames(x, lambda _: shown, (), self._size(state), self._view(about, *pose))

    def _frames(
        self, seen: Int[Array, "b"], x: Float[Array, "b t n f"]
    ) -> tuple[Float[Array, "b t n d"], Float[Array, "b t n d"]]:
        """Keys and values as they enter a mean."""
        keys, values = (z.astype(self.config.state_dtype) for z in self.keys_and_values(x))
        memory, length = self.config.memory, x.shape[1]
        if self.bends or memory.merge == "ema":
            return keys, values
        r = memory.slot_frames
        place = (seen[:, None] + jnp.arange(length)) % r
        return r * self.key_share[place][:, :, None] * keys, r * self.value_share[place][:, :, None] * values

    def _steps(
        self, about: About, length: int, *pose: Float[Array, "b t p"]
    ) -> Callable[[Int[Array, "b k"]], Step]:
        """Of a run of ``length`` frames: makes the steps (b, k, ...) to the states after its first ``ends`` frames."""
        memory = self.config.memory
        if pose:
            known, one = jax.vmap(partial(walk_by_pose, memory))(about, *pose), pose_step
        elif memory.merge == "conv":
            known, one = about, partial(ring_step, memory, length)
        else:
            known, one = about, partial(mean_step, jax.nn.log_sigmoid(-self.rate), length)
        return lambda ends: jax.vmap(jax.vmap(one, (None, 0)))(known, ends)

    def _show(self, state: SlotState) -> Shown:
        dtype, (keys, values, about) = self.config.compute_dtype, state
        held = about.count > 0
        if not self.bends:
            keys = keys + self.age[self._code(about)][:, :, None]
        keys, values = (rearrange(z, "b c n (h e) -> b c n h e", h=self.heads) for z in (keys, values))
        logit = jnp.log(jnp.where(held, about.count, 1))
        return Shown(self.rotate(keys).astype(dtype), values.astype(dtype), held, logit)

    def _code(self, about: About) -> Int[Array, "b c"]:
        """Which code every slot has: its age in a ring, else its number."""
        memory = self.config.memory
        number = jnp.broadcast_to(jnp.arange(memory.slots), about.count.shape)
        if memory.merge == "ema":
            return number
        return (newest_group(memory, about.seen)[:, None] - number) % memory.slots

    def _view(self, about: About, *pose: Float[Array, "b t p"]) -> View | None:
        """Slots (b, t, ...), or (b, 1, ...) for all frames, as frames at ``pose`` see them."""
        if not pose:
            return None
        poses = jnp.broadcast_to(about.pose, (*pose[0].shape[:2], *about.pose.shape[2:]))
        each = [jax.vmap(jax.vmap(f))(poses, *pose) for f in (relative_pose, squared_distance)]
        return View(*each)

    def _size(self, state: SlotState) -> int:
        """Bytes of the slots of all videos."""
        return sum(z.size * z.dtype.itemsize for z in (state.keys, state.values))


def after(
    step: Step, mean: Float[Array, "b c n d"], frames: Float[Array, "b t n d"]
) -> Float[Array, "b c n d"]:
    """The means of slots after a step."""
    return step.keep[..., None, None] * mean + jnp.einsum("bct,btnd->bcnd", step.write, frames)


def means(about: About, keep: Float[Array, "c"], weight: Float[Array, "c t"], end: Int[Array, ""]) -> Step:
    """The step to means of which what was there before counts ``keep`` times as before, and every frame ``weight``."""
    kept = keep * about.count
    count = kept + weight.sum(-1)
    total = jnp.where(count > 0, count, 1)
    seen = (about.seen + end).astype(about.seen.dtype)
    return Step(kept / total, weight / total[:, None], about._replace(count=count, seen=seen))


def newest_group(memory: MemoryConfig, seen: Int[Array, "*b"]) -> Int[Array, "*b"]:
    """Number of the group of ``slot_frames`` frames that the last frame is in, from 0; -1 where there is none."""
    return (seen - 1) // memory.slot_frames


def ring_step(memory: MemoryConfig, length: int, about: About, end: Int[Array, ""]) -> Step:
    """Consecutive frames: slot s holds the newest group whose number is s modulo the number of slots."""
    slot, frame = jnp.arange(memory.slots), jnp.arange(length)

    def held(seen: Int[Array, ""]) -> Int[Array, "c"]:
        newest = newest_group(memory, seen)
        return newest - (newest - slot) % memory.slots

    before, now = held(about.seen), held(about.seen + end)
    group = newest_group(memory, about.seen + frame + 1)
    weight = (group == now[:, None]) & (frame < end)
    return means(about, *(z.astype(about.count.dtype) for z in (before == now, weight)), end)


def mean_step(log_decay: Float[Array, "c"], length: int, about: About, end: Int[Array, ""]) -> Step:
    """Exponential means over all frames."""
    since = end - 1 - jnp.arange(length)
    weight = jnp.where(since >= 0, jnp.exp(jnp.maximum(since, 0) * log_decay[:, None]), 0)
    return means(about, jnp.exp(end * log_decay), weight, end)


class PoseWalk(NamedTuple):
    """What is known about the slots of one video before a run and after each of its frames.

    Attributes:
      about: leaves (t + 1, c, ...).
      first: frame of the run that cleared a slot last; -1: none did.
      slot: which every frame has entered.
    """

    about: About
    first: Int[Array, "*b c"]
    slot: Int[Array, "*b t"]


def walk_by_pose(memory: MemoryConfig, about: About, poses: Float[Array, "t p"]) -> PoseWalk:
    """Frame after frame, in a few numbers each: a slot is chosen by the mean pose of the frames in it."""

    def enter(carry: tuple[About, Array], frame: tuple[Array, Array]) -> tuple[tuple, tuple]:
        (about, first), (index, pose) = carry, frame
        slot, known = by_pose(memory, about.count > 0, about.stamp, about.pose, pose)
        here = jnp.arange(memory.slots) == slot
        count = jnp.where(here, jnp.where(known, about.count, 0) + 1, about.count)
        seen = about.seen + 1
        apart = (pose - about.pose) / count.clip(1)[:, None]
        moved = jnp.where(known, about.pose + apart, pose)
        mean = jnp.where(here[:, None], moved, about.pose)
        about = About(count, seen, jnp.where(here, seen, about.stamp), mean)
        first = jnp.where(here & ~known, index, first)
        return (about, first), (about, first, slot)

    index = jnp.arange(len(poses), dtype=jnp.int32)
    start = about, jnp.full_like(about.stamp, -1)
    _, (*every, slot) = jax.lax.scan(enter, start, (index, poses))
    before_too = jax.tree.map(lambda z, later: jnp.concatenate([z[None], later]), start, tuple(every))
    return PoseWalk(*before_too, slot)


def pose_step(walk: PoseWalk, end: Int[Array, ""]) -> Step:
    """Frames of one pose."""
    begun, about = jax.tree.map(lambda z: z[0], walk.about), jax.tree.map(lambda z: z[end], walk.about)
    first, frame = walk.first[end][:, None], jnp.arange(len(walk.slot))
    weight = (walk.slot == jnp.arange(len(first))[:, None]) & (frame < end) & (frame >= first)
    step = means(begun, *(z.astype(about.count.dtype) for z in (first[:, 0] < 0, weight)), end)
    return step._replace(about=about)


def first_rates(key: Key[Array, ""], shape: tuple[int], dtype: jnp.dtype, age: int) -> Float[Array, "c"]:
    """Such that what the means hold is first ``age`` frames old on average, and twice as old from slot to slot."""
    return -jnp.log(age * 2.0 ** jnp.arange(shape[0], dtype=dtype))


MIXER = ConvKV
