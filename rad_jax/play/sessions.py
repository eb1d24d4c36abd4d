"""Rollouts that come and go, in a fixed number of slots and by one compiled program.

    sessions = Sessions(trained.model, trained.params, diffusion=config.diffusion, steps=config.sample.steps, slots=16)
    one = sessions.insert(context, actions, seed=0)      # a number
    frames = sessions.step({one: action})                # {one: the latent frame that the action leads to}
    saved = sessions.snapshot(one)                       # on the host; restored as often as one likes
    other = sessions.restore(saved)
    sessions.evict(one)

Every session is at its own frame, in a window of its own length. Its frames are a function of its context, its actions and
its seed, to the bit: whatever the other sessions do, and whether it was on the host meanwhile. Noise is folded from the seed
and the number of the frame; the program is the same for all calls, and computes in groups of ``lanes`` slots, of which those
that are not stepped stay as they are. On a CPU a lane costs what it computes, so there is one; an accelerator steps many for
little more.

If there are more sessions than slots, those that were not stepped for longest wait on the host.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax import rollout
from rad_jax.axes import Array, Bool, Float, Int, PyTree, UInt
from rad_jax.config import DiffusionConfig
from rad_jax.errors import UserError
from rad_jax.model import RAD
from rad_jax.rollout.stream import RolloutState, next_frame

LARGEST = 1e9  # number of an action
PLAY = 6  # purpose of the keys, beside those of training, generation, Figure 3, calibration and the probe


class SessionError(UserError, ValueError):
    """A session that is not there, or an action that cannot be one."""


class Snapshot(NamedTuple):
    """A session between two frames, as numpy arrays.

    Attributes:
      window: what a rollout carries, without an axis of videos in front of it.
      frame: how many frames it has generated.
      seed: of its noise.
    """

    window: PyTree
    frame: int
    seed: int


class Sessions:
    """See the module docstring. Not safe for threads: one of them makes all the calls."""

    def __init__(
        self,
        model: RAD,
        params: PyTree,
        *,
        diffusion: DiffusionConfig,
        steps: int,
        slots: int,
        lanes: int = 1,
        remembers: bool = True,
    ):
        """Opens slots without sessions.

        Args:
          params: the model's parameters (without the ``{"params": ...}`` around them).
          steps: DDIM steps per frame.
          slots: sessions on the device.
          lanes: how many of them are stepped together; a divisor of ``slots``.
          remembers: without it memories are empty at every frame: the same weights, with the memory switched off.
        """
        if slots < 1 or lanes < 1 or slots % lanes:
            raise ValueError(f"slots={slots}, lanes={lanes}: expected a positive multiple of lanes")
        self._rollout = RolloutState(None, params, model, diffusion, steps)
        self._slots, self._lanes, self._remembers = slots, lanes, remembers
        self._windows: PyTree = None  # leaves (slots, ...)
        self._sessions: dict[int, _Session] = {}  # in the order in which they were last used
        self._last = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: int) -> bool:
        return session in self._sessions

    @property
    def bytes_per_session(self) -> int:
        """What a session holds on the device, or on the host while it waits; 0 before the first one."""
        return sum(leaf.nbytes // self._slots for leaf in jax.tree.leaves(self._windows))

    def frame(self, session: int) -> int:
        """How many frames a session has generated."""
        return self._find(session).frame

    def insert(self, frames: Float[Array, "t rows cols ch"], actions: Float[Array, "t a"], seed: int) -> int:
        """A new session behind a context of clean latents, each with the action that led to it; returns its number.

        Contexts are read in whole segments of ``memory.prefetch_segment`` frames, so few lengths are compiled for.

        Raises:
          SessionError: a seed that is none.
        """
        _check_seed(seed)
        state = self._rollout
        started = rollout.start(
            state.model,
            state.params,
            frames[None],
            actions[None],
            diffusion=state.diffusion,
            steps=state.steps,
        )
        if not self._remembers:
            started = rollout.forget(started)
        return self._add(started.window, 0, seed)

    def step(self, actions: Mapping[int, Float[np.ndarray, "a"]]) -> dict[int, Float[Array, "rows cols ch"]]:
        """The frames that the actions of some sessions lead to, by session.

        Raises:
          SessionError: there is no such session, or an action is no row of so many numbers as the condition of the model has.
            Then nothing was stepped.
        """
        width = self._rollout.model.config.action_dim
        rows = {}
        for session, action in actions.items():
            self._find(session)
            row = np.asarray(action)
            fits = row.shape == (width,) and row.dtype.kind in "biuf" and (np.abs(row) <= LARGEST).all()
            if not fits:
                raise SessionError(
                    f"an action of session {session}: expected {width} numbers from -{LARGEST:g} to {LARGEST:g}"
                )
            rows[session] = row.astype(np.float32)
        frames, waiting = {}, list(rows)
        while waiting:
            # No more at once than there are slots; of each group of lanes, those that are in it.
            now, waiting = waiting[: self._slots], waiting[self._slots :]
            for session in now:
                self._wake(session, among=now)
            groups: dict[int, list[int]] = {}
            for session in now:
                groups.setdefault(self._sessions[session].slot // self._lanes, []).append(session)
            for group, members in groups.items():
                frames |= self._step_group(group, {session: rows[session] for session in members})
        return {session: frames[session] for session in rows}

    def snapshot(self, session: int) -> Snapshot:
        """The session as it is, on the host; the session goes on."""
        found = self._find(session)
        window = found.window if found.slot is None else jax.device_get(_read(self._windows, found.slot))
        return Snapshot(window, found.frame, found.seed)

    def restore(self, snapshot: Snapshot) -> int:
        """A new session that goes on from a snapshot; returns its number.

        Raises:
          SessionError: it is of another model, or its seed or frame is none.
        """
        _check_seed(snapshot.seed)
        if not 0 <= snapshot.frame < 2**31:
            raise SessionError(f"a snapshot of frame {snapshot.frame}: expected 0 to {2**31 - 1}")
        if self._windows is not None:
            given, held = (jax.tree.flatten(tree) for tree in (snapshot.window, self._windows))
            if given[1] != held[1] or any(
                x.shape != y.shape[1:] for x, y in zip(given[0], held[0], strict=True)
            ):
                raise SessionError("a snapshot of another model, or of another memory")
        return self._add(snapshot.window, snapshot.frame, snapshot.seed)

    def evict(self, session: int) -> None:
        """Ends a session; its slot is free."""
        self._find(session)
        del self._sessions[session]

    def _find(self, session: int) -> "_Session":
        if session not in self._sessions:
            raise SessionError(f"session {session}: there is none; there are {len(self._sessions)} others")
        return self._sessions[session]

    def _add(self, window: PyTree, frame: int, seed: int) -> int:
        if self._windows is None:
            self._windows = jax.tree.map(lambda x: jnp.zeros((self._slots, *x.shape), x.dtype), window)
        self._last += 1
        self._sessions[self._last] = _Session(None, window, frame, seed)
        self._wake(self._last, among=[self._last])
        return self._last

    def _wake(self, session: int, among: list[int]) -> None:
        """Brings a session to a slot, if it is not in one, and marks it as used last; none of those ``among`` gives way."""
        found = self._sessions.pop(session)
        self._sessions[session] = found
        if found.slot is not None:
            return
        taken = {other.slot: number for number, other in self._sessions.items() if other.slot is not None}
        free = set(range(self._slots)) - set(taken)
        if not free:
            oldest = next(
                number for number in self._sessions if number in taken.values() and number not in among
            )
            other = self._sessions[oldest]
            window = jax.device_get(_read(self._windows, other.slot))
            free, self._sessions[oldest] = {other.slot}, other._replace(slot=None, window=window)
        slot = min(free)
        self._windows = _write(self._windows, slot, found.window)
        self._sessions[session] = found._replace(slot=slot, window=None)

    def _step_group(self, group: int, rows: Mapping[int, np.ndarray]) -> dict[int, Array]:
        lanes, model = self._lanes, self._rollout.model.config
        actions, stepped = np.zeros((lanes, model.action_dim), np.float32), np.zeros(lanes, bool)
        seeds, numbers = np.zeros(lanes, np.uint32), np.zeros(lanes, np.int32)
        members = {session: self._sessions[session] for session in rows}
        for session, found in members.items():
            lane = found.slot % lanes
            actions[lane], stepped[lane] = rows[session], True
            seeds[lane], numbers[lane] = found.seed, found.frame
        inputs = actions.astype(model.state_dtype), seeds, numbers, stepped
        self._windows, frames = _step(self._rollout, self._remembers, self._windows, group * lanes, *inputs)
        for session, found in members.items():
            self._sessions[session] = found._replace(frame=found.frame + 1)
        return {session: frames[found.slot % lanes] for session, found in members.items()}


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise SessionError(f"seed {seed!r}: expected 0 to {2**32 - 1}")


class _Session(NamedTuple):
    """One session: in a slot, or waiting with its window on the host."""

    slot: int | None
    window: PyTree
    frame: int
    seed: int


@partial(jax.jit, donate_argnames="windows", static_argnames="remembers")
def _step(
    state: RolloutState,
    remembers: bool,
    windows: PyTree,
    first: int | Int[Array, ""],
    actions: Float[Array, "b a"],
    seeds: UInt[Array, "b"],
    numbers: Int[Array, "b"],
    stepped: Bool[Array, "b"],
) -> tuple[PyTree, Float[Array, "b rows cols ch"]]:
    """The windows after a frame of the slots from ``first`` on, one for each action; those not ``stepped`` stay."""

    def of_one(window: PyTree, action: Array, seed: Array, number: Array) -> tuple[PyTree, Array]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), PLAY), number)
        window, frame = next_frame(state, window, action[None], key[None], remembers)
        return window, frame[0]

    if len(actions) == 1:  # without an axis of lanes a window that is not full is not slid
        now = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, first, keepdims=False), windows)
        new, frame = of_one(now, actions[0], seeds[0], numbers[0])
        return _put(windows, first, new), frame[None]
    lanes = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, len(actions)), windows)
    new, frames = jax.vmap(of_one)(lanes, actions, seeds, numbers)

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(stepped.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    new = jax.tree.map(choose, new, lanes)
    windows = jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, first, 0), windows, new)
    return windows, frames


def _put(windows: PyTree, slot: int | Int[Array, ""], window: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y, slot, 0), windows, window)


_write = jax.jit(_put, donate_argnums=0)


@jax.jit
def _read(windows: PyTree, slot: int | Int[Array, ""]) -> PyTree:
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, slot, keepdims=False), windows)
