"""The ARL2 memory against literal loops over frames, blocks and tokens, and what sharing one state over a frame means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig
from rad_jax.model.mixers import contract
from rad_jax.model.mixers.contract import BATCH, FRAMES, POSE, TOKENS, WIDTH, distance
from rad_jax.model.mixers.linear_rules import EPSILON, LinearState
from rad_jax.model.rope import spatial_angles

HEADS = 2
ROW = (1, TOKENS)
VARIANTS = {  # a memory and the rows and columns of its tokens
    "plain": (MemoryConfig(kind="arl2"), ROW),
    "action, one head": (MemoryConfig(kind="arl2", action=True, action_width=4, heads=1), ROW),
    "frame": (MemoryConfig(kind="arl2", rule="frame"), ROW),
    "sum": (MemoryConfig(kind="arl2", rule="sum"), ROW),
    "blocks": (MemoryConfig(kind="arl2", block=(2, 2)), (2, 4)),
    "frame, blocks": (MemoryConfig(kind="arl2", rule="frame", block=(2, 1)), (4, 2)),
    "pose": (MemoryConfig(kind="arl2", rotate="pose", heads=1), (2, 2)),
    "ray, sum, single tokens": (MemoryConfig(kind="arl2", rotate="ray", rule="sum", block=(1, 1)), (2, 3)),
}


def subject(variant, dtype="float64"):
    config, grid = VARIANTS[variant]
    return contract.subject(config, dtype, grid)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("check", contract.CHECKS)
def test_contract(check, variant, float64):
    check(subject(variant))


def angles_of(s, pose, token, pair, e):
    """By which a pair of features of a token turns, one angle per video: place in the frame, heading and position."""
    angle = spatial_angles(*s.grid, e)[token, 2 * pair]
    if pose is None:
        return np.full(BATCH, angle)
    (x, y, cos, sin), multiple = pose.T, pair % 7
    heading, reach, direction = np.arctan2(sin, cos), [1.0, 2.0, 4.0][pair % 3], pair * np.pi * (3 - 5**0.5)
    if s.config.rotate == "ray":
        column = token % s.grid[1]
        offset = 0.5 - column / (s.grid[1] - 1)  # of the view, from the middle to the left
        heading = heading + offset * np.radians(s.config.view_angle)
        angle = angle if pair < e // 4 else 0.0
    return angle + multiple * heading + reach * (np.cos(direction) * x + np.cos(direction + np.pi / 2) * y)


def rotated(x, s, pose):
    """Each pair of features of every token turned, written out."""
    y = np.empty_like(x)
    for token in range(x.shape[1]):
        for pair in range(0, x.shape[-1], 2):
            angle = angles_of(s, pose, token, pair // 2, x.shape[-1])[:, None]
            cos, sin = np.cos(angle), np.sin(angle)
            even, odd = x[:, token, :, pair], x[:, token, :, pair + 1]
            y[:, token, :, pair], y[:, token, :, pair + 1] = even * cos - odd * sin, even * sin + odd * cos
    return y


def unit(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6)


def softplus(x):
    return np.log1p(np.exp(x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def blocks_of(s):
    """The tokens of every block, in raster order."""
    (rows, columns), (r, c) = s.grid, s.config.block or s.grid
    return [
        [(top + i) * columns + left + j for i in range(r) for j in range(c)]
        for top in range(0, rows, r)
        for left in range(0, columns, c)
    ]


def projections(s, frame):
    """Of one frame: q, k (rotated), v, bare q and k, all (b, n, h, e), write strength, log decay and gate, all (b, n, h)."""
    params = jax.tree.map(np.asarray, s.variables["params"])
    heads, pose = s.mixer.heads, None
    if s.config.posed:
        frame, pose = frame[..., :-POSE], frame[:, 0, -POSE:]
    projected = frame @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    q, k, v = (z.reshape(*z.shape[:2], heads, -1) for z in np.split(projected, 3, axis=-1))
    logits = frame @ params["gates"]["kernel"]
    if s.config.rule == "token":
        q, k = (unit(rotated(z, s, pose)) for z in (q, k))
        step, strength, gate = np.split(logits, 3, axis=-1)
        gamma = -np.exp(params["rate"]) * softplus(step + params["step"])
        return q / np.sqrt(q.shape[-1]), k, v, None, None, 2 * sigmoid(strength), gamma, sigmoid(gate)
    q, k = (np.maximum(unit(z), 0) for z in (q, k))
    k = k / np.sqrt(len(blocks_of(s)[0]))
    turned = rotated(q, s, pose), rotated(k, s, pose)
    logits = logits + params["bias"].ravel()
    gate = logits[..., -heads:] * sigmoid(logits[..., -heads:])
    if s.config.rule == "sum":
        return *turned, v, q, k, None, None, gate
    step, strength, _ = np.split(logits, 3, axis=-1)
    gamma = np.empty_like(step)
    for tokens in blocks_of(s):
        mean = step[:, tokens].mean(1, keepdims=True)
        gamma[:, tokens] = -np.exp(params["rate"]) * softplus(mean)
    return *turned, v, q, k, sigmoid(strength), gamma, gate


def outer(k, v):
    return np.einsum("bhk,bhv->bhkv", k, v)


def recalled(state, k):
    return np.einsum("bhkv,bhk->bhv", state, k)


def written(rule, state, k, v, beta, gamma):
    """The state after the tokens of a frame, one after another, or all at once, or added up."""
    tokens = range(k.shape[1])
    if rule == "sum":
        return state + sum(outer(k[:, n], v[:, n]) for n in tokens)
    if rule == "token":
        for n in tokens:
            state = np.exp(gamma[:, n])[..., None, None] * state
            error = v[:, n] - recalled(state, k[:, n])
            state = state + outer(k[:, n], beta[:, n][..., None] * error)
        return state
    before = np.exp(gamma[:, 0])[..., None, None] * state
    return before + sum(
        outer(k[:, n], beta[:, n][..., None] * (v[:, n] - recalled(before, k[:, n]))) for n in tokens
    )


def literal(s):
    """Frame after frame, block after block: outputs and the state after each frame."""
    out = jax.tree.map(np.asarray, s.variables["params"]["out"])
    state, z = np.array(s.state.s), None if s.state.z is None else np.array(s.state.z)[..., None]
    outputs, states = [], []
    for t in range(s.x.shape[1]):
        q, k, v, bare_q, bare_k, beta, gamma, gate = projections(s, np.asarray(s.x[:, t]))
        y = np.empty_like(q)
        after, z_after = np.empty_like(state), np.empty_like(z)
        for i, tokens in enumerate(blocks_of(s)):
            for n in tokens:
                y[:, n] = recalled(state[:, i], q[:, n])
                if z is not None:
                    y[:, n] /= np.maximum(recalled(z[:, i], bare_q[:, n]), 0) + EPSILON
            gates = [None if gate is None else gate[:, tokens] for gate in (beta, gamma)]
            after[:, i] = written(s.config.rule, state[:, i], k[:, tokens], v[:, tokens], *gates)
            if z is not None:
                ones = np.ones_like(v[:, tokens, :, :1])
                z_after[:, i] = written(s.config.rule, z[:, i], bare_k[:, tokens], ones, *gates)
        state, z = after, None if z is None else z_after
        y = y * gate[..., None]
        outputs.append(y.reshape(*y.shape[:2], -1) @ out["kernel"] + out["bias"])
        states.append(LinearState(state, None if z is None else z[..., 0]))
    return np.stack(outputs, axis=1), states


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_is_the_rule_written_out(variant, float64):
    s = subject(variant)
    state, y = s("run", s.state, s.x)
    outputs, states = literal(s)
    assert distance(y, outputs) < 1e-12
    assert distance(state, states[-1]) < 1e-12
    _, _, kept = s("run_with_states", s.state, s.x, jnp.arange(1, FRAMES + 1)[None].repeat(BATCH, 0))
    for t in range(FRAMES):
        assert distance(jax.tree.map(lambda leaf, t=t: leaf[:, t], kept), states[t]) < 1e-12


@pytest.mark.parametrize("variant", ["frame", "frame, blocks"])
def test_the_rule_frame_is_that_of_sana_wm(variant, float64):
    """Theirs reads after the write, so it is given the queries of the next frame; blocks are heads of its own to it."""
    torch = pytest.importorskip("torch")
    sana = pytest.importorskip("diffusers.models.transformers.transformer_sana_wm")
    s = subject(variant)
    out = jax.tree.map(np.asarray, s.variables["params"]["out"])
    frames = [projections(s, np.asarray(s.x[:, t])) for t in range(FRAMES)]
    q, k, v, bare_q, bare_k, beta, gamma, gate = (np.stack(z, axis=1) for z in zip(*frames, strict=True))
    y = np.zeros_like(q)
    for tokens in blocks_of(s):

        def theirs(z, tokens=tokens):  # (b, h, e, frames and tokens)
            z = z[:, :, tokens].transpose(0, 3, 4, 1, 2)
            return torch.from_numpy(np.ascontiguousarray(z.reshape(*z.shape[:3], -1)))

        read = (np.concatenate([z[:, 1:], z[:, :1]], axis=1) for z in (bare_q, q))
        bare_read, turned_read = map(theirs, read)
        strength = torch.from_numpy(np.ascontiguousarray(beta[:, :, tokens].transpose(0, 3, 1, 2)))
        decay = torch.from_numpy(np.exp(gamma[:, :, tokens[0]]).transpose(0, 2, 1).copy())
        keys = theirs(bare_k), theirs(v), turned_read, theirs(k)
        got = sana.torch_chunk_sana_gdn(bare_read, *keys, strength, decay, eps=EPSILON).numpy()
        got = got.reshape(*got.shape[:3], FRAMES, len(tokens)).transpose(0, 3, 4, 1, 2)
        y[:, 1:, tokens] = got[:, :-1]
    y = (y * gate[..., None]).reshape(*y.shape[:3], -1) @ out["kernel"] + out["bias"]
    _, ours = s("run", s.mixer.initial_state(BATCH, TOKENS), s.x)
    assert distance(ours, y) < 1e-12


@pytest.mark.parametrize("variant", ["plain", "frame", "sum", "frame, blocks"])
def test_an_empty_state_reads_as_zero(variant):
    """Exactly, also for tokens of zeros, and with finite gradients."""
    s = subject(variant, "float32")
    params = s.variables["params"]
    params = {**params, "out": {**params["out"], "bias": jnp.zeros(WIDTH)}}
    empty = s.mixer.initial_state(BATCH, TOKENS)

    def read(params, state, x):
        return contract.call(s.mixer, "read", {"params": params}, state, x)

    for x in (s.x, jnp.zeros_like(s.x), jnp.tile(s.x, (1, 20, 1, 1))):
        assert not np.any(read(params, empty, x))
        y, pull = jax.vjp(read, params, empty, x)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pull(jnp.ones_like(y))))


@pytest.mark.parametrize("rule", ["frame", "sum"])
def test_the_gates_start_where_they_are_said_to(rule, float64):
    mixer = contract.build(MemoryConfig("arl2", rule=rule))
    x = jnp.asarray(contract.noise(0, 1, 2, TOKENS, WIDTH))
    params = contract.init(mixer, x)
    _, beta, gamma, gate = contract.call(mixer, "_project", {"params": params}, x)
    np.testing.assert_allclose(gate, 1, atol=1e-12)
    if rule == "frame":
        np.testing.assert_allclose(beta, 0.9933, atol=1e-4)
        np.testing.assert_allclose(np.exp(gamma), 0.9933, atol=1e-4)
    else:
        assert beta is None and gamma is None


@pytest.mark.parametrize("rule", ["token", "frame", "sum"])
def test_a_block_as_large_as_the_frame_is_the_frame(rule, float64):
    whole = contract.subject(MemoryConfig("arl2", rule=rule))
    block = contract.subject(MemoryConfig("arl2", rule=rule, block=(1, TOKENS)))
    assert distance(block("run", block.state, block.x), whole("run", whole.state, whole.x)) == 0


def test_there_is_a_state_for_every_block_and_none_for_a_token():
    def shapes(**memory):
        mixer = contract.build(MemoryConfig("arl2", **memory), 16, 2, "float32", 6, 4)
        return [leaf.shape for leaf in jax.tree.leaves(mixer.initial_state(3, 24))]

    assert shapes() == [(3, 1, 2, 8, 8)]
    assert shapes(rule="sum") == [(3, 1, 2, 8, 8), (3, 1, 2, 8)]
    assert shapes(rule="frame", block=(2, 3)) == [(3, 4, 2, 8, 8), (3, 4, 2, 8)]
    assert shapes(block=(1, 1)) == [(3, 24, 2, 8, 8)]


def test_a_frame_starts_with_the_decay_of_one_token():
    """The log decay of a whole block of zeros, whatever its number of tokens, is between those the authors give a token."""
    for tokens, block, written in ((4, None, 4), (144, None, 144), (144, (1, 12), 12)):
        mixer = contract.build(MemoryConfig("arl2", heads=64, block=block), 256, 2, "float32", tokens)
        params = contract.init(mixer, jnp.zeros((1, 1, tokens, 256)))
        decay = np.exp(params["rate"]) * np.log1p(np.exp(params["step"])) * written
        assert decay.min() > 1e-3 and decay.max() < 1.6
        assert 0.02 < np.median(decay) < 0.3


@pytest.mark.parametrize("dtype, bound", [("float32", 2e-6), ("bfloat16", 1.2e-2)])
def test_a_thousand_frames_drift_no_more_than_rounded_operands_must(dtype, bound):
    """Relative error of the state after 1,000 frames that are forgotten slowly, against float64."""

    def final(dtype):
        s = subject("plain", dtype)
        slow = {**variables["params"], "step": np.full(HEADS, -9.0)}
        x = jnp.asarray(contract.noise(9, BATCH, 1000, TOKENS, WIDTH), s.x.dtype)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, s.mixer.config.state_dtype), slow)
        state, _ = contract.call(s.mixer, "run", {"params": params}, s.mixer.initial_state(BATCH, TOKENS), x)
        return np.asarray(state.s, np.float64)

    with jax.enable_x64(True):
        variables = subject("plain").variables
        reference = final("float64")
    error = np.linalg.norm(final(dtype) - reference) / np.linalg.norm(reference)
    assert error < bound
