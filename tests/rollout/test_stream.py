"""Streaming generation against the full window at every sampler step, written out."""

import dataclasses
import itertools
import re
import resource

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax import diffusion, rollout
from rad_jax.config import NAMES, DiffusionConfig, modes
from rad_jax.model import RAD
from rad_jax.rollout import stream
from tests.toy_model import LATENT, WINDOW, toy_clip, toy_model, toy_params, toy_posed

DIFFUSION = DiffusionConfig(levels=20)
STEPS, FUTURE, BATCH = 3, 6, 2


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    """Two orders of the same sums are compared: how far float32 is off depends on the processor."""
    with jax.enable_x64(True):
        yield


class LiteralRollout:
    """A list of clean frames; each new one is denoised at the end of the window by `RAD.__call__` on all of them."""

    def __init__(self, model, params):
        self.model, self.memory, self.window = model, model.initial_memory(BATCH), model.config.window
        self.frames, self.actions = [], []
        self.apply = jax.jit(lambda *window: model.apply({"params": params}, *window))

    def push(self, frame, action):
        self.frames.append(frame)
        self.actions.append(action)
        if len(self.frames) == self.window:
            clean = jnp.full((BATCH, self.window), self.model.config.context_level)
            _, self.memory = self._window(self.frames, self.actions, clean)
            stride = self.model.config.memory.stride
            self.frames, self.actions = self.frames[stride:], self.actions[stride:]

    def generate(self, action, key):
        frame = jax.random.normal(key, (BATCH, *LATENT), action.dtype)
        levels = diffusion.sampler_levels(DIFFUSION, STEPS)
        for level, next_level in itertools.pairwise(levels):
            window_levels = jnp.full((BATCH, len(self.frames) + 1), self.model.config.context_level)
            window_levels = window_levels.at[:, -1].set(level)
            prediction, _ = self._window([*self.frames, frame], [*self.actions, action], window_levels)
            frame = diffusion.ddim_step(
                DIFFUSION, frame, prediction[:, -1], jnp.asarray(level), jnp.asarray(next_level)
            )
        self.push(frame, action)
        return frame

    def _window(self, frames, actions, levels):
        """Filled up with what no frame before it sees, so that one program serves windows of all lengths."""
        missing = self.window - len(frames)
        frames, actions = (jnp.stack([*x, *[jnp.ones_like(x[0])] * missing], 1) for x in (frames, actions))
        levels = jnp.pad(levels, [(0, 0), (0, missing)])
        prediction, memory = self.apply(frames, levels, actions, self.memory)
        return prediction[:, : self.window - missing], memory


# The atlas is among those that know the pose.
OTHERS = [kind for kind in NAMES if kind not in ("none", "lstm", "atlas")]


@pytest.mark.parametrize(
    "stride, window, kind, contexts",
    [
        (1, "shared", "none", (7,)),
        # Frame-wise and chunk-wise in turn; training is tested the other way round.
        *[
            (WINDOW, "rollout", kind, (7,)) if i % 2 and "c" in modes(kind) else (1, "shared", kind, (7,))
            for i, kind in enumerate(OTHERS)
        ],
        (1, "shared", "lstm", (2, 7)),  # shorter than the window, and longer than one slide
        (WINDOW, "rollout", "lstm", (2, 7)),
        (2, "rollout", "lstm", (7,)),
    ],
)
def test_cached_generation_is_the_full_window_at_every_step(stride, window, kind, contexts):
    compare(toy_model(stride, window, kind=kind, dtype="float64"), contexts)


@pytest.mark.parametrize(
    "memory",
    [
        {"kind": "atlas", "unseen": 0.1},
        {"keep": "novel", "read": "embedding"},
        {"kind": "arl2", "rule": "frame", "block": (1, 2), "rotate": "pose"},
        {"kind": "convkv", "align": "pose", "slots": 2, "radius": 4.0},
    ],
)
def test_what_knows_the_pose_generates_as_the_literal_walk_does(memory):
    """A bank is beyond its capacity: at the start it reads a tape of all frames, then one record per slot."""
    compare(toy_posed(**memory), (7,))


@pytest.mark.parametrize("window, kind", [("shared", "lstm"), ("rollout", "lstm")])
def test_a_window_may_be_one_frame(window, kind):
    model = toy_model(1, window, kind=kind, dtype="float64")
    compare(RAD(dataclasses.replace(model.config, window=1)), (2,))


def compare(model, contexts):
    params = toy_params(model)
    key = jax.random.key(5)
    for context in contexts:
        frames, actions = toy_clip(BATCH, context + FUTURE, "float64")
        state = rollout.start(
            model, params, frames[:, :context], actions[:, :context], diffusion=DIFFUSION, steps=STEPS
        )
        _, found = rollout.generate(state, actions[:, context:], key)
        literal = LiteralRollout(model, params)
        for t in range(context):
            literal.push(frames[:, t], actions[:, t])
        for i in range(FUTURE):
            wanted = literal.generate(actions[:, context + i], jax.random.fold_in(key, i))
            np.testing.assert_allclose(found[:, i], wanted, atol=1e-11)


def reusable(state):
    """A copy for `rollout.step`, which consumes the window it is given."""
    return state.replace(window=jax.tree.map(jnp.copy, state.window))


@pytest.fixture(scope="module")
def walk():
    """A model, and a rollout after a context of 7 frames."""
    model = toy_model(dtype="float64")
    params = toy_params(model)
    frames, actions = toy_clip(BATCH, 7 + FUTURE, "float64")
    state = rollout.start(model, params, frames[:, :7], actions[:, :7], diffusion=DIFFUSION, steps=STEPS)
    return model, params, frames, actions, state


def test_steps_one_by_one_are_the_compiled_walk(walk):
    *_, actions, state = walk
    key = jax.random.key(2)
    _, whole = rollout.generate(state, actions[:, 7:], key)
    state = reusable(state)
    for i in range(FUTURE):
        state, frame = rollout.step(state, actions[:, 7 + i], jax.random.fold_in(key, i))
        np.testing.assert_allclose(frame, whole[:, i], atol=1e-11)


def test_the_state_has_constant_size_and_step_is_traced_once(walk, monkeypatch):
    *_, actions, state = walk
    chex.clear_trace_counter()
    guarded = chex.assert_max_traces(stream.next_frame, n=1)
    monkeypatch.setattr(stream, "_step", jax.jit(guarded, donate_argnames="window"))
    first = state = reusable(state)
    for i in range(2 * WINDOW):
        state, _ = rollout.step(state, actions[:, i % 7], jax.random.key(i))
        chex.assert_trees_all_equal_shapes_and_dtypes(state, first)
    with pytest.raises(AssertionError, match="traced"):
        rollout.step(state, actions[:1, 0], jax.random.key(0))  # the guard sees another shape


def test_a_step_takes_over_the_window_and_leaves_the_parameters(walk):
    _, params, _, actions, state = walk
    state = reusable(state)
    new, _ = rollout.step(state, actions[:, 0], jax.random.key(0))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.window))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((params, new.window)))
    for mine, given in zip(jax.tree.leaves(new.params), jax.tree.leaves(params), strict=True):
        assert mine is given  # not copied either


@pytest.mark.parametrize("kind", ["lstm", "arl2"])
def test_a_step_copies_no_array_that_it_leaves_alone(kind):
    """Neither the memory on frames that do not slide nor anything else: of the window only what has changed is written."""
    model = toy_model(kind=kind)
    frames, actions = toy_clip(BATCH, 7)
    state = rollout.start(model, toy_params(model), frames, actions, diffusion=DIFFUSION, steps=STEPS)
    lowered = stream._step.lower(state.replace(window=None), state.window, actions[:, 0], jax.random.key(0))
    text = lowered.compile().as_text()
    shapes = {
        "[" + ",".join(map(str, leaf.shape)) + "]" for leaf in jax.tree.leaves(state.window) if leaf.ndim
    }
    entry = text[text.index("\nENTRY") :]
    assert "while" in entry and text.count("-alias") >= len(jax.tree.leaves(state.window))
    copied = re.findall(r"= \w+(\[[\d,]*\])\S* copy\(", entry)
    assert not shapes.intersection(copied)


def test_contexts_of_many_lengths_compile_once_for_a_prefetch_segment():
    model = toy_model(dtype="float64")
    params, (frames, actions) = toy_params(model), toy_clip(BATCH, 12, "float64")
    settings = {"diffusion": DIFFUSION, "steps": STEPS}
    before = stream._read_context._cache_size()
    for length in range(WINDOW, 8):  # 1 to 4 frames in the memory, and 4 are a segment
        rollout.start(model, params, frames[:, :length], actions[:, :length], **settings)
    assert stream._read_context._cache_size() <= before + 1  # another test may have compiled it


def test_padding_behind_a_context_is_never_read(walk):
    model, params, frames, actions, state = walk
    lengths = np.array([7, 5])
    settings = {"diffusion": DIFFUSION, "steps": STEPS}
    together = rollout.start(model, params, frames, actions, lengths=lengths, **settings)
    _, found = rollout.generate(together, actions[:, :2], jax.random.key(0))
    _, first = rollout.generate(state, actions[:, :2], jax.random.key(0))
    np.testing.assert_allclose(found[0], first[0], atol=1e-11)
    short = rollout.start(model, params, frames[:, :5], actions[:, :5], **settings)
    _, second = rollout.generate(short, actions[:, :2], jax.random.key(0))
    np.testing.assert_allclose(found[1], second[1], atol=1e-11)


@pytest.mark.parametrize(
    "stride, lengths, message",
    [(2, [6, 7], r"\[6, 7\] .* \[2, 3\]"), (1, [8, 7], r"lengths: \[8, 7\], .* 0 to 7")],
)
def test_lengths_that_cannot_be_are_refused(stride, lengths, message):
    """Those that leave unequal windows, and one beyond the frames."""
    frames, actions = toy_clip(2, 7)
    with pytest.raises(ValueError, match=message):
        rollout.start(
            toy_model(stride, "rollout"), {}, frames, actions,
            diffusion=DIFFUSION, steps=STEPS, lengths=np.array(lengths),
        )  # fmt: skip


def test_an_action_of_another_width_is_refused(walk):
    *_, actions, state = walk
    with pytest.raises(AssertionError, match=r"\(2, 2\) .* \(2, 3\).*\[action\]"):
        rollout.step(state, actions[:, 0, :2], jax.random.key(0))


@pytest.mark.parametrize("stride, left", [(1, 3), (2, 2), (4, 1)])
def test_frames_in_window(stride, left):
    model = toy_model(stride, "rollout")
    assert [rollout.frames_in_window(model, n) for n in (1, 3)] == [1, 3]
    assert rollout.frames_in_window(model, 4) == 4 - stride
    assert rollout.frames_in_window(model, 9) == {1: 3, 2: 3, 4: 1}[stride]
    assert rollout.frames_in_window(model, 4 + stride) in (4 - stride, left)


def test_a_thousand_frames_leave_memory_flat(walk):
    *_, actions, state = walk
    state, action = reusable(state), actions[:, 0]
    held, peaks = [], []
    for i in range(1000):
        state, frame = rollout.step(state, action, jax.random.key(0))
        if i in (100, 999):
            held.append(sum(x.nbytes for x in jax.live_arrays()))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB
    assert jnp.isfinite(frame).all()
    assert held[0] == held[1]
    assert peaks[1] - peaks[0] < 16 * 1024
