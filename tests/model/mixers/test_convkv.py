"""Merged frames against literal loops over frames and slots, and PyTorch's attention for the reading."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import ConfigError, MemoryConfig, ModelConfig
from rad_jax.model.addressing import relative_pose
from rad_jax.model.mixers import contract, convkv, frame_reader
from rad_jax.model.mixers.contract import BATCH, FRAMES, POSE, TOKENS, WIDTH, distance, noise
from rad_jax.model.mixers.frame_reader import place_code
from rad_jax.model.rope import rotate, spatial_angles

HEADS = 2
VARIANTS = {
    "conv": MemoryConfig("convkv", slots=4, slot_frames=2),
    "ema, action": MemoryConfig(
        "convkv", merge="ema", slots=2, slot_frames=2, action=True, action_width=4, heads=1
    ),
    "pose": MemoryConfig("convkv", align="pose", slots=8, radius=2.5),
}
LITERAL = VARIANTS | {
    "conv of three": MemoryConfig("convkv", slots=2, slot_frames=3),
    "pose, too few slots": MemoryConfig("convkv", align="pose", slots=3, radius=2.0),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("check", contract.CHECKS)
def test_contract(check, variant, float64):
    check(contract.subject(VARIANTS[variant]))


def parameters(s):
    return jax.tree.map(np.asarray, s.variables["params"])


def inputs(s):
    """Of the frames before the state of a subject and of those of ``s.x``: features (b, t, n, f) and poses (b, t, p)."""
    x = np.concatenate([noise(1, *s.x.shape), np.asarray(s.x)], axis=1)
    return (x[..., :-POSE], x[:, :, 0, -POSE:]) if s.config.posed else (x, None)


def merged(s, keys, values, poses):
    """What the frames of one video (t, n, d) leave, as a list of slots: keys, values, count, code of age and pose."""
    p, memory, length = parameters(s), s.config, len(keys)
    if memory.align == "pose":
        return by_pose(memory, keys, values, poses)
    slots = []
    if memory.merge == "ema":
        for number, rate in enumerate(p["rate"]):
            decay, count = 1 - 1 / (1 + np.exp(-rate)), 0.0
            sums = np.zeros_like(keys[:1].sum(0)), np.zeros_like(keys[:1].sum(0))
            for key, value in zip(keys, values):
                sums = decay * sums[0] + key, decay * sums[1] + value
                count = decay * count + 1
            if length:
                slots.append((sums[0] / count, sums[1] / count, count, p["age"][number], None))
        return slots
    r = memory.slot_frames
    for age, first in enumerate(range((length - 1) // r * r, -1, -r)):
        if age < memory.slots:
            count = min(r, length - first)
            key = sum(p["key_share"][i] * keys[first + i] for i in range(count)) * r / count
            value = sum(p["value_share"][i] * values[first + i] for i in range(count)) * r / count
            slots.append((key, value, count, p["age"][age], None))
    return slots


def by_pose(memory, keys, values, poses):
    """The frames of one pose are a slot; ``frames`` has a list of their numbers for each."""
    frames = []
    for t, pose in enumerate(poses):
        apart = [np.linalg.norm(poses[members].mean(0) - pose) for members in frames]
        if apart and min(apart) < memory.radius:
            frames[np.argmin(apart)].append(t)
        elif len(frames) < memory.slots:
            frames.append([t])
        else:
            frames[np.argmin([members[-1] for members in frames])] = [t]
    return [(keys[f].mean(0), values[f].mean(0), len(f), np.zeros(WIDTH), poses[f].mean(0)) for f in frames]


def turned(z, heads):
    """Tokens (n, d) as heads (h, n, e), rotated by their place in the frame."""
    z = jnp.asarray(z.reshape(TOKENS, heads, -1))
    return np.asarray(rotate(z, spatial_angles(1, TOKENS, WIDTH // heads)[:, None])).transpose(1, 0, 2)


def gelu(x):
    return np.asarray(jax.nn.gelu(jnp.asarray(x)))


def attended(s, x, pose, slots):
    """What the tokens of one frame read of slots, by PyTorch: (n, d).

    Queries differ from slot to slot, so those of all slots lie side by side, and a key has zeros but for its slot's part.
    """
    torch = pytest.importorskip("torch")
    p, heads, code = parameters(s), s.config.heads or HEADS, place_code(1, TOKENS)
    e, queries, keys, values, mask = WIDTH // heads, [], [], [], []
    place = np.exp(p["near_place"])[:, None, None] * (np.arange(TOKENS)[:, None] - np.arange(TOKENS)) ** 2
    for i, (key, value, count, age, seen_from) in enumerate(slots):
        q, taken = x @ p["query"]["kernel"], place
        if pose is not None:
            view = np.asarray(relative_pose(jnp.asarray(seen_from)[None], jnp.asarray(pose)))[0]
            hidden = x @ p["query_token"]["kernel"] + view @ p["query_pose"]["kernel"]
            q = q + gelu(hidden + code @ p["query_place"]["kernel"] + p["query_place"]["bias"]) @ p["bend"]
            taken = place + np.exp(p["near_pose"])[:, None, None] * ((seen_from - pose) ** 2).sum()
        wide = np.zeros((heads, TOKENS, e * len(slots)))
        wide[:, :, i * e : (i + 1) * e] = turned(key + age, heads)
        queries.append(turned(q, heads))
        keys.append(wide)
        values.append(value.reshape(TOKENS, heads, e).transpose(1, 0, 2))
        mask.append(np.log(count) - taken)
    q, k, v, mask = (
        torch.from_numpy(np.concatenate(z, axis=axis))
        for z, axis in ((queries, 2), (keys, 1), (values, 1), (mask, 2))
    )
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=e**-0.5).numpy()
    return y.transpose(1, 0, 2).reshape(TOKENS, WIDTH) @ p["out"]["kernel"]


def literal(s):
    """Frame after frame: outputs (b, t, n, d), and the slots after every frame, in a list of videos of a list of frames."""
    p, (x, poses) = parameters(s), inputs(s)
    outputs, states = np.zeros((BATCH, FRAMES, TOKENS, WIDTH)), []
    for b in range(BATCH):
        keys, values = x[b] @ p["key"]["kernel"], x[b] @ p["value"]["kernel"]
        if poses is not None:
            keys = keys + place_code(1, TOKENS) @ p["key_place"]["kernel"]

        def slots(t, b=b, keys=keys, values=values):
            return merged(s, keys[:t], values[:t], None if poses is None else poses[b, :t])

        states.append([slots(FRAMES + t + 1) for t in range(FRAMES)])
        for t in range(FRAMES):
            pose = None if poses is None else poses[b, FRAMES + t]
            outputs[b, t] = attended(s, x[b, FRAMES + t], pose, slots(FRAMES + t))
    return outputs, states


def sorted_slots(slots):
    """Counts, keys and values, whatever the order of the slots is."""
    slots = sorted(slots, key=lambda slot: slot[1].sum())
    return [np.stack([np.asarray(slot[i], np.float64) for slot in slots]) for i in (2, 0, 1)]


@pytest.mark.parametrize("variant", LITERAL)
def test_outputs_and_states_are_those_of_a_literal_loop(variant, float64):
    s = contract.subject(LITERAL[variant])
    outputs, states = literal(s)
    ends = jnp.broadcast_to(jnp.arange(1, FRAMES + 1), (BATCH, FRAMES))
    _, y, kept = s("run_with_states", s.state, s.x, ends)
    assert distance(y, outputs) < 1e-12
    for b in range(BATCH):
        for t in range(FRAMES):
            count, keys, values = (np.asarray(z[b, t]) for z in (kept.about.count, kept.keys, kept.values))
            found = [(keys[i], values[i], count[i]) for i in np.flatnonzero(count)]
            assert distance(sorted_slots(found), sorted_slots(states[b][t])) < 1e-12
    if variant == "pose, too few slots":  # frames were merged, and slots cleared
        last = [[slot[2] for slot in video[-1]] for video in states]
        assert max(map(max, last)) > 1 and min(map(sum, last)) < 2 * FRAMES


def slower(log_decay, *args):
    return convkv_mean_step(0.99 * log_decay, *args)


def one_group_early(memory, seen):
    return seen // memory.slot_frames


def everything(logits, shown):
    return convkv_attend(logits, shown._replace(valid=jnp.ones_like(shown.valid)))


def run_anew(s, state):
    """Outputs, of a program that is compiled anew."""
    args = contract.with_pose(s.mixer, state, s.x)
    return jax.jit(lambda v: s.mixer.apply(v, *args, method="run")[1])(s.variables)


convkv_mean_step, convkv_attend = convkv.mean_step, frame_reader.attend


@pytest.mark.parametrize(
    "variant, where, name, broken",
    [
        ("ema, action", convkv, "mean_step", slower),
        ("conv", convkv, "newest_group", one_group_early),
        ("pose", frame_reader, "attend", everything),
    ],
)
def test_a_wrong_decay_order_or_mask_is_seen(variant, where, name, broken, float64, monkeypatch):
    s = contract.subject(VARIANTS[variant])
    empty = s.mixer.initial_state(BATCH, TOKENS)

    sound = s("run", empty, s.x)[1]
    assert distance(run_anew(s, empty), sound) < 1e-12
    monkeypatch.setattr(where, name, broken)
    assert distance(run_anew(s, empty), sound) > 1e-5


def test_few_frames_at_a_time_read_the_same(float64, monkeypatch):
    s = contract.subject(VARIANTS["pose"])
    monkeypatch.setattr(frame_reader, "GATHERED_BYTES", 1)
    assert distance(run_anew(s, s.state), s("run", s.state, s.x)[1]) < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_empty_memory_reads_as_zero(variant, float64):
    """Exactly, and with finite gradients."""
    s = contract.subject(VARIANTS[variant])
    empty = s.mixer.initial_state(BATCH, TOKENS)
    numbers, whole = contract.of_numbers(empty)

    def read(variables, numbers, x):
        return contract.call(s.mixer, "read", variables, whole(numbers), x)

    y, pull = jax.vjp(read, s.variables, numbers, s.x)
    assert not np.any(y)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pull(jnp.ones_like(y))))


def test_still_frames_are_one_place_of_the_map(float64):
    """500 frames from one pose fill one slot, which reads as the first of them did; a state has its bytes."""
    s = contract.subject(VARIANTS["pose"])
    still = jnp.tile(s.x[:, :1], (1, 500, 1, 1))
    empty = s.mixer.initial_state(BATCH, TOKENS)
    state, y = s("run", empty, still)
    np.testing.assert_array_equal(state.about.count, [[500] + 7 * [0]] * BATCH)
    assert not np.any(y[:, 0]) and distance(y[:, 499], y[:, 1]) < 1e-10
    one, _ = s("run", empty, s.x[:, :1])
    assert (
        distance((state.keys, state.values, state.about.pose), (one.keys, one.values, one.about.pose)) < 1e-10
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_has_the_same_bytes_after_5_and_after_5000_frames(variant):
    s = contract.subject(VARIANTS[variant], "float32")
    memory, state = s.config, s.mixer.initial_state(BATCH, TOKENS)
    declared = BATCH * (8 * memory.slots * TOKENS * WIDTH + 4 * memory.slots + 4)
    declared += BATCH * 4 * memory.slots * (1 + POSE) if memory.posed else 0

    @jax.jit
    def after(state):
        return jax.lax.scan(lambda state, _: (s("run", state, s.x[:, :5])[0], None), state, length=999)[0]

    state, _ = s("run", state, s.x[:, :5])
    for frames in (5, 5000):
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == declared
        assert np.all(state.about.seen == frames)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        state = after(state)


def test_everything_starts_as_means(float64):
    conv = contract.build(MemoryConfig("convkv", slots=2, slot_frames=4))
    x = jnp.asarray(noise(0, 1, 4, TOKENS, WIDTH))
    params = contract.init(conv, x)
    state, _ = contract.call(conv, "run", {"params": params}, conv.initial_state(1, TOKENS), x)
    wanted = np.asarray(x[0]).mean(0) @ np.asarray(params["key"]["kernel"])
    np.testing.assert_allclose(state.keys[0, 0], wanted, atol=1e-12)
    np.testing.assert_array_equal(state.about.count, [[4, 0]])
    ema = contract.build(MemoryConfig("convkv", merge="ema", slots=3, slot_frames=4))
    decay = 1 - jax.nn.sigmoid(contract.init(ema, x)["rate"])
    np.testing.assert_allclose(decay / (1 - decay), [4, 8, 16], rtol=1e-12)  # mean age of what they hold


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"align": "pose"}, "memory.align=pose: the model is not given the pose; use data.condition=action"),
        ({"align": "pose", "merge": "ema"}, "memory.merge=ema: with memory.align=pose"),
        ({"heads": 4}, "memory.heads=4"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    memory = dataclasses.replace(VARIANTS["conv"], **changes)
    with pytest.raises(ConfigError, match=words):
        ModelConfig(latent=(2, 6, 3), action_dim=4, pose=(0, 0), width=WIDTH, heads=HEADS, memory=memory)
