"""Sessions against rollouts alone; that none of them can change another one; slots, snapshots and the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax import rollout
from rad_jax.config import DiffusionConfig
from rad_jax.play import SessionError, Sessions, Snapshot
from rad_jax.play.sessions import PLAY, _step
from rad_jax.rollout.stream import forget
from tests.toy_model import ACTION, WINDOW, toy_clip, toy_model, toy_params, toy_posed

DIFFUSION, STEPS, FRAMES = DiffusionConfig(levels=50), 2, 7
MODELS = {
    "lstm-f": lambda: toy_model(),
    "lstm-c": lambda: toy_model(WINDOW, "rollout"),
    "bank-f": lambda: toy_model(kind="bank", capacity=3, retrieved=2),
    "none": lambda: toy_model(kind="none"),
}


def open_slots(model, slots=4, lanes=1, remembers=True) -> Sessions:
    return Sessions(
        model,
        toy_params(model),
        diffusion=DIFFUSION,
        steps=STEPS,
        slots=slots,
        lanes=lanes,
        remembers=remembers,
    )


def context_of(number: int, length: int):
    frames, actions = toy_clip(4, 12)
    return frames[number, :length], actions[number, :length]


def actions_of(number: int, frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(frames, ACTION)).astype(np.float32)


def alone(sessions: Sessions, number: int, length: int, frames: int = FRAMES) -> list[np.ndarray]:
    """The frames of one session while nothing else happens."""
    session = sessions.insert(*context_of(number, length), seed=number)
    found = [np.asarray(sessions.step({session: a})[session]) for a in actions_of(number, frames)]
    sessions.evict(session)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_session_is_a_rollout(name):
    model = MODELS[name]()
    sessions, params = open_slots(model), toy_params(model)
    for number, length in ((0, 5), (1, 10)):  # more than a window, of different lengths in it
        frames, actions = context_of(number, length)
        state = rollout.start(model, params, frames[None], actions[None], diffusion=DIFFUSION, steps=STEPS)
        key = jax.random.fold_in(jax.random.key(number), PLAY)
        found = alone(sessions, number, length)
        for i, action in enumerate(actions_of(number)):
            state, wanted = rollout.step(state, jnp.asarray(action)[None], jax.random.fold_in(key, i)[None])
            np.testing.assert_allclose(found[i], wanted[0], rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("lanes", [1, 4])
def test_what_others_do_changes_no_bit(lanes):
    """Others come, go, wait, act at random and hold what is not finite."""
    model = toy_model()
    wanted = [alone(open_slots(model, 4, lanes), number, length) for number, length in ((0, 6), (1, 9))]
    sessions, rng = open_slots(model, 4, lanes), np.random.default_rng(5)
    frames, actions = context_of(3, 7)
    others = [sessions.insert(frames, actions, seed=9)]
    mine = [sessions.insert(*context_of(0, 6), seed=0), sessions.insert(*context_of(1, 9), seed=1)]
    broken = sessions.snapshot(others[0])
    nothing = jax.tree.map(
        lambda x: np.full_like(x, np.nan) if np.issubdtype(x.dtype, np.floating) else x, broken.window
    )
    others.append(sessions.restore(broken._replace(window=nothing)))
    done, found = [0, 0], [[], []]
    while min(done) < FRAMES:
        acting = {other: rng.normal(size=ACTION) * 10 for other in others if rng.random() < 0.7}
        for i, session in enumerate(mine):
            if done[i] < FRAMES and rng.random() < 0.6:
                acting[session] = actions_of(i)[done[i]]
        order = rng.permutation(list(acting)).tolist()
        frames = sessions.step({session: acting[session] for session in order})
        assert list(frames) == order
        for i, session in enumerate(mine):
            if session in frames:
                found[i].append(np.asarray(frames[session]))
                done[i] += 1
                assert sessions.frame(session) == done[i]
        if rng.random() < 0.3:
            sessions.evict(others.pop(0))
            others.append(sessions.insert(*context_of(2, int(rng.integers(4, 8))), seed=3))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, wanted)


def test_sessions_without_a_slot_wait_on_the_host_and_miss_nothing():
    model = toy_model(kind="bank", capacity=3, retrieved=2)
    plain, tight = open_slots(model, slots=5), open_slots(model, slots=2)
    both = []
    for sessions in (plain, tight):
        numbers = [sessions.insert(*context_of(i % 4, 5 + i), seed=i) for i in range(5)]
        frames = []
        for t in range(3):
            frames.append(
                [
                    np.asarray(x)
                    for x in sessions.step({n: actions_of(i)[t] for i, n in enumerate(numbers)}).values()
                ]
            )
            frames.append([np.asarray(sessions.step({numbers[t]: actions_of(9)[t]})[numbers[t]])] * 5)
        both.append(frames)
        assert len(sessions) == 5 and all(n in sessions for n in numbers)
    np.testing.assert_array_equal(*both)


def test_a_snapshot_goes_on_with_the_same_bits_as_often_as_one_likes():
    model = toy_model()
    sessions = open_slots(model)
    wanted = alone(sessions, 0, 6)
    one = sessions.insert(*context_of(0, 6), seed=0)
    for action in actions_of(0)[:3]:
        sessions.step({one: action})
    saved = sessions.snapshot(one)
    kept = jax.tree.map(np.copy, saved.window)
    assert isinstance(saved, Snapshot) and saved.frame == 3 and saved.seed == 0
    assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(saved.window))
    for session in (one, sessions.restore(saved), sessions.restore(saved)):
        found = [np.asarray(sessions.step({session: a})[session]) for a in actions_of(0)[3:]]
        np.testing.assert_array_equal(found, wanted[3:])
    jax.tree.map(np.testing.assert_array_equal, saved.window, kept)
    elsewhere = open_slots(model, slots=1)
    session = elsewhere.restore(saved)
    found = [np.asarray(elsewhere.step({session: a})[session]) for a in actions_of(0)[3:]]
    np.testing.assert_array_equal(found, wanted[3:])


def test_with_the_memory_switched_off_every_frame_knows_its_window_alone():
    model = toy_model()
    off, params = open_slots(model, remembers=False), toy_params(model)
    frames, actions = context_of(0, 9)
    key = jax.random.fold_in(jax.random.key(0), PLAY)
    state = rollout.start(model, params, frames[None], actions[None], diffusion=DIFFUSION, steps=STEPS)
    found = alone(off, 0, 9)
    for i, action in enumerate(actions_of(0)):
        state, wanted = rollout.step(
            forget(state), jnp.asarray(action)[None], jax.random.fold_in(key, i)[None]
        )
        np.testing.assert_allclose(found[i], wanted[0], rtol=0, atol=2e-5 * np.abs(wanted).max())
    remembered = alone(open_slots(model), 0, 9)
    assert np.abs(np.subtract(found, remembered)).max() > 1e-3


def test_one_program_and_one_size_for_all_sessions():
    model = toy_model(kind="bank", capacity=3, retrieved=2)
    sessions = open_slots(model, slots=3)
    assert sessions.bytes_per_session == 0
    first = sessions.insert(*context_of(0, 5), seed=0)
    size = sessions.bytes_per_session
    assert size == sum(leaf.nbytes for leaf in jax.tree.leaves(sessions.snapshot(first).window)) > 0
    before = _step._cache_size()
    others = [sessions.insert(*context_of(i, 6 + i), seed=i) for i in (1, 2, 3)]
    for t in range(3):
        sessions.step({session: actions_of(session)[t] for session in (first, *others[:t])})
    assert _step._cache_size() - before == 1
    assert sessions.bytes_per_session == size


def test_what_cannot_be_is_refused_and_steps_nothing():
    model = toy_model()
    sessions = open_slots(model, slots=2)
    one, other = (sessions.insert(*context_of(0, 6), seed=0) for _ in range(2))
    good = actions_of(0)[0]
    for wrong in (
        good[:2],
        good[None],
        np.array([np.nan, 0, 0]),
        np.array(["a", "b", "c"]),
        None,
        np.array([1e300, 0, 0]),
    ):
        with pytest.raises(SessionError, match="3 numbers from"):
            sessions.step({other: good, one: wrong})
    with pytest.raises(SessionError, match="session 77: there is none"):
        sessions.step({one: good, 77: good})
    assert sessions.frame(one) == sessions.frame(other) == 0
    with pytest.raises(SessionError, match="seed -1"):
        sessions.insert(*context_of(0, 6), seed=-1)
    saved = sessions.snapshot(one)
    with pytest.raises(SessionError, match="seed 4294967296"):
        sessions.restore(saved._replace(seed=2**32))
    with pytest.raises(SessionError, match="frame -1"):
        sessions.restore(saved._replace(frame=-1))
    with pytest.raises(SessionError, match="another model"):
        sessions.restore(saved._replace(window=jax.tree.map(lambda x: x[None], saved.window)))
    sessions.evict(one)
    for use in (sessions.evict, sessions.snapshot, sessions.frame):
        with pytest.raises(SessionError, match="none"):
            use(one)
    with pytest.raises(ValueError, match="slots=3, lanes=2"):
        open_slots(model, slots=3, lanes=2)


def test_a_model_that_is_given_the_pose_plays_too():
    model = toy_posed(kind="atlas", unseen=0.1)
    with jax.enable_x64(True):
        sessions = open_slots(model)
        frames, actions = (x.astype("float64") for x in context_of(0, 6))
        one = sessions.insert(frames, actions, seed=0)
        (frame,) = sessions.step({one: actions_of(0)[0]}).values()
        assert frame.shape == frames.shape[1:] and jnp.isfinite(frame).all()
