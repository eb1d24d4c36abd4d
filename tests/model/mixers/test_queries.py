"""Memory queries against a literal loop over frames, heads, queries and tokens, and what their gates and shares mean."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig
from rad_jax.model.mixers import contract
from rad_jax.model.mixers.contract import BATCH, FRAMES, POSE, TOKENS, distance
from rad_jax.model.mixers.queries import EPSILON
from tests.model.mixers.test_arl2 import rotated

QUERIES, WIDTH = 5, 12


def memory(**changes):
    return MemoryConfig(
        **{"kind": "queries", "queries": QUERIES, "query_width": WIDTH, "heads": 3, **changes}
    )


VARIANTS = {  # a memory and the rows and columns of its tokens
    "attention": (memory(), (1, TOKENS)),
    "competition": (memory(write="competition"), (1, TOKENS)),
    "action, one head": (
        memory(action=True, action_width=4, heads=1, query_width=0, write="competition"),
        (2, 2),
    ),
    "pose": (memory(rotate="pose"), (2, 3)),
    "ray, competition": (memory(rotate="ray", write="competition"), (1, TOKENS)),
}


def subject(variant, dtype="float64"):
    config, grid = VARIANTS[variant]
    return contract.subject(config, dtype, grid)


@pytest.mark.parametrize("variant", ["action, one head", "pose"])
@pytest.mark.parametrize("check", contract.CHECKS)
def test_contract(check, variant, float64):
    check(subject(variant))


def params_of(s):
    return jax.tree.map(np.asarray, s.variables["params"])


def norm(z):
    z = z - z.mean(-1, keepdims=True)
    return z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-6)


def heads_of(z, s):
    return z.reshape(*z.shape[:-1], s.mixer.heads, -1)


def mapped(z, kernel, s, parts=1):
    """The parts of a map, each in heads."""
    return [heads_of(part, s) for part in np.split(z @ kernel, parts, axis=-1)]


def frame_of(s, t):
    """A frame's tokens (b, n, f) and its pose."""
    frame = np.asarray(s.x[:, t])
    return (frame[..., :-POSE], frame[:, 0, -POSE:]) if s.config.posed else (frame, None)


def attended(q, k, v, weigh):
    """Of one video and head: every query's sum of values, with the weights that ``weigh`` makes of all logits."""
    logits = np.array([[sum(q[i] * k[j]) / np.sqrt(len(q[i])) for j in range(len(k))] for i in range(len(q))])
    weights = weigh(np.exp(logits - logits.max()))
    return np.array([sum(weights[i, j] * v[j] for j in range(len(v))) for i in range(len(q))])


def over_rows(e):
    return e / e.sum(1, keepdims=True)


def queries_read(s, held, t):
    """What the tokens of frame ``t`` read of the queries (b, m, u) themselves."""
    p, (x, pose) = params_of(s), frame_of(s, t)
    (q,) = mapped(x, p["look"]["kernel"], s)
    q, (k, v) = rotated(q, s, pose), mapped(norm(held), p["show"]["kernel"], s, 2)
    y = np.empty((*q.shape[:3], v.shape[-1]))
    for b, h in np.ndindex(BATCH, s.mixer.heads):
        y[b, :, h] = attended(q[b, :, h], k[b, :, h], v[b, :, h], over_rows)
    return y.reshape(*y.shape[:2], -1) @ p["out"]["kernel"]


def queries_written(s, held, t):
    """The queries after frame ``t``; no word of a difference to their start."""
    p, (x, pose) = params_of(s), frame_of(s, t)
    (q,), (k, v) = mapped(norm(held), p["ask"]["kernel"], s), mapped(x, p["offer"]["kernel"], s, 2)
    k = rotated(k, s, pose)
    found, won = np.empty_like(q), np.empty(q.shape[:3])

    def compete(e):
        shares = e / e.sum(0, keepdims=True)
        won[b, :, h] = shares.sum(1)
        return shares / (won[b, :, h, None] + EPSILON)

    for b, h in np.ndindex(BATCH, s.mixer.heads):
        weigh = over_rows if s.config.write == "attention" else compete
        found[b, :, h] = attended(q[b, :, h], k[b, :, h], v[b, :, h], weigh)
    update = found.reshape(*held.shape) @ p["update"]["kernel"]
    gate = np.concatenate([norm(held), update], -1) @ p["gate_kernel"] + p["gate_bias"]
    gate = 1 / (1 + np.exp(-gate))
    after = gate * held + (1 - gate) * update
    if s.config.write == "attention":
        return after
    mass = won.mean(-1, keepdims=True)
    return (held + mass * after) / (1 + mass)


def literal(s):
    """Frame after frame: outputs, and the queries after each."""
    start = params_of(s)["start"]
    held, outputs, every = start + np.asarray(s.state), [], []
    for t in range(FRAMES):
        outputs.append(queries_read(s, held, t))
        held = queries_written(s, held, t)
        every.append(held)
    return np.stack(outputs, axis=1), np.stack(every, axis=1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_is_the_equations_written_out_for_the_queries_themselves(variant, float64):
    """The state is their difference to the start."""
    s = subject(variant)
    outputs, queries = literal(s)
    ends = jnp.arange(1, FRAMES + 1)[None].repeat(BATCH, 0)
    state, y, kept = s("run_with_states", s.state, s.x, ends)
    start = params_of(s)["start"]
    assert distance(y, outputs) < 1e-12
    assert distance(start + kept, queries) < 1e-12
    assert distance(start + state, queries[:, -1]) < 1e-12


def test_reading_is_pytorchs_attention(float64):
    torch = pytest.importorskip("torch")
    s = subject("attention")
    p, held = params_of(s), params_of(s)["start"] + np.asarray(s.state)
    k, v = (torch.from_numpy(z.swapaxes(1, 2).copy()) for z in mapped(norm(held), p["show"]["kernel"], s, 2))
    y = s("read", s.state, s.x)
    for t in range(FRAMES):
        (q,) = mapped(np.asarray(s.x[:, t]), p["look"]["kernel"], s)
        q = torch.from_numpy(rotated(q, s, None).swapaxes(1, 2).copy())
        wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v).numpy().swapaxes(1, 2)
        assert distance(y[:, t], wanted.reshape(*wanted.shape[:2], -1) @ p["out"]["kernel"]) < 1e-12


def run(s, state, **params):
    """A run with some of the parameters replaced."""
    return contract.call(s.mixer, "run", {"params": {**s.variables["params"], **params}}, state, s.x)


@pytest.mark.parametrize("variant", ["attention", "ray, competition"])
def test_queries_in_another_order_are_the_same_memory(variant, float64):
    s, order = subject(variant), np.random.default_rng(0).permutation(QUERIES)
    start = s.variables["params"]["start"]
    state, y = run(s, s.state)
    shuffled, same = run(s, s.state[:, order], start=start[order])
    assert distance(shuffled, state[:, order]) < 1e-12
    assert distance(same, y) < 1e-12


def gate(s, bias):
    kernel = s.variables["params"]["gate_kernel"]
    return {"gate_kernel": jnp.zeros_like(kernel), "gate_bias": jnp.full(kernel.shape[-1], bias)}


@pytest.mark.parametrize("variant", ["attention", "competition"])
def test_a_gate_of_one_never_changes_the_state(variant, float64):
    s = subject(variant)
    state, _ = run(s, s.state, **gate(s, 1e3))
    assert not np.any(state - s.state)
    state, y = run(s, jnp.zeros_like(s.state), **gate(s, 1e3))
    assert not np.any(state) and not np.any(y)  # an empty memory stays one


def test_a_gate_of_zero_keeps_the_last_frame_alone(float64):
    """With questions that do not depend on what is known, which the last frame would otherwise be asked."""
    s = subject("attention")
    alike = {**gate(s, -1e3), "ask": {"kernel": jnp.zeros_like(s.variables["params"]["ask"]["kernel"])}}
    state, _ = run(s, s.state, **alike)
    p = params_of(s)
    _, v = mapped(np.asarray(s.x[:, -1]), p["offer"]["kernel"], s, 2)
    mean = v.mean(1).reshape(BATCH, 1, WIDTH) @ p["update"]["kernel"]
    assert distance(p["start"] + state, np.broadcast_to(mean, state.shape)) < 1e-12
    last = dataclasses.replace(s, x=s.x[:, -1:])
    assert distance(run(last, jnp.zeros_like(s.state), **alike)[0], state) < 1e-12


def test_a_query_that_wins_no_token_stays(float64):
    """With questions that decide it entirely. As published, every query is overwritten."""
    config, grid = VARIANTS["action, one head"]
    changed = {}
    for write in ("competition", "attention"):
        s = contract.subject(dataclasses.replace(config, write=write), grid=grid)
        x, empty = s.x[:, :1], jnp.zeros_like(s.state)
        sure = {**gate(s, -1e3), "ask": {"kernel": 1e4 * s.variables["params"]["ask"]["kernel"]}}
        state, _ = run(dataclasses.replace(s, x=x), empty, **sure)
        changed[write] = np.abs(state).max(-1)
    assert (changed["attention"] > 0.1).all()
    won = changed["competition"] > 0.1
    assert (changed["competition"][~won] < 1e-9).all()
    assert won.any(1).all() and (won.sum(1) <= 4).all()  # 4 tokens, 5 queries


def test_an_empty_memory_reads_as_zero_and_has_finite_gradients():
    s = subject("attention", "float32")
    empty = s.mixer.initial_state(BATCH, TOKENS)

    def read(variables, state, x):
        return contract.call(s.mixer, "read", variables, state, x)

    y, pull = jax.vjp(read, s.variables, empty, s.x)
    assert not np.any(y)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pull(jnp.ones_like(y))))
    assert np.any(contract.call(s.mixer, "run", s.variables, empty, s.x)[1][:, 1:])
    # A memory of one video that is empty does not read that of another.
    half = s.state.at[0].set(0)
    y = read(s.variables, half, s.x)
    assert not np.any(y[0]) and np.any(y[1])


@pytest.mark.parametrize("variant", ["attention", "competition"])
def test_saturated_logits_are_finite_in_float32(variant):
    """A query that wins nothing at all, not even a little, divides nothing by nothing."""
    s = subject(variant, "float32")

    def total(params):
        state, y = contract.call(s.mixer, "run", {"params": params}, s.state, s.x)
        return (state**2).sum() + (y**2).sum()

    params = s.variables["params"]
    large = {**params, "ask": {"kernel": 1e4 * params["ask"]["kernel"]}}
    value, gradient = jax.value_and_grad(total)(large)
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_it_starts_by_keeping_and_with_queries_that_differ():
    mixer = contract.build(memory(queries=64, query_width=32, heads=4), dtype="float32")
    params = contract.init(mixer, jnp.zeros((1, 1, TOKENS, contract.WIDTH)))
    np.testing.assert_allclose(1 / (1 + np.exp(-params["gate_bias"])), 0.8808, atol=1e-4)
    assert params["start"].shape == mixer.initial_state(1, TOKENS).shape[1:] == (64, 32)
    assert abs(np.std(params["start"]) - 1) < 0.1
    assert np.abs(np.corrcoef(params["start"]) - np.eye(64)).max() < 0.8
