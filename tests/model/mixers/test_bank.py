"""What a frame reads of a bank, against PyTorch's attention and written out; what it leaves behind."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import MemoryConfig, ModelConfig
from rad_jax.model import mixers
from rad_jax.model.addressing import Reading
from rad_jax.model.mixers.contract import noise
from rad_jax.model.mixers.frame_reader import first_log_weights, place_code
from rad_jax.model.rope import rotate, spatial_angles

WIDTH, HEADS, BATCH, FRAMES, GRID, RECORDS, READ, POSE = 16, 2, 2, 3, (2, 3), 5, 3, 13
TOKENS = GRID[0] * GRID[1]


@dataclasses.dataclass(frozen=True)
class Subject:
    config: ModelConfig
    mixer: mixers.Mixer
    variables: dict
    x: jax.Array
    tape: object
    reading: Reading

    def __call__(self, method, *args):
        return jax.jit(lambda v, *a: self.mixer.apply(v, *a, method=method))(self.variables, *args)


@pytest.fixture
def subject(float64) -> Subject:
    config = ModelConfig(
        latent=(2 * GRID[0], 2 * GRID[1], 3),
        action_dim=4,
        pose=(2, 1),
        width=WIDTH,
        heads=HEADS,
        dtype="float64",
        memory=MemoryConfig(kind="bank", capacity=RECORDS, retrieved=READ),
    )
    mixer = mixers.build(config)
    x = jnp.asarray(noise(0, BATCH, FRAMES, TOKENS, WIDTH))
    older = jnp.asarray(noise(1, BATCH, RECORDS, TOKENS, WIDTH))
    rng = np.random.default_rng(2)
    record = np.stack([rng.permutation(RECORDS)[:READ] for _ in range(BATCH * FRAMES)])
    reading = Reading(
        jnp.asarray(record.reshape(BATCH, FRAMES, READ)),
        jnp.ones((BATCH, FRAMES, READ), bool),
        jnp.asarray(noise(3, BATCH, FRAMES, READ, POSE)),
        jnp.asarray(noise(5, BATCH, FRAMES, READ) ** 2),
    )
    empty = mixer.empty_tape(BATCH, TOKENS, RECORDS)
    start = {
        **mixer.init(jax.random.key(0), empty, reading, x, method="attend")["params"],
        **mixer.init(jax.random.key(1), x, method="record")["params"],
    }
    start = jax.tree.map(lambda leaf: leaf + 0.3 * noise(4, *leaf.shape), start)
    tape = mixer.apply({"params": start}, older, method="record")
    return Subject(config, mixer, {"params": start}, x, tape, reading)


def rotated(x):
    return np.asarray(rotate(jnp.asarray(x), spatial_angles(*GRID, WIDTH // HEADS)[:, None]))


def gelu(x):
    return np.asarray(jax.nn.gelu(jnp.asarray(x)))


def queries(s: Subject, b: int, t: int, r: int) -> np.ndarray:
    """(n, h, e), rotated, written out from the docstring."""
    p = jax.tree.map(np.asarray, s.variables["params"])
    x = np.asarray(s.x[b, t])
    code = place_code(*GRID)
    hidden = x @ p["query_token"]["kernel"] + code @ p["query_place"]["kernel"] + p["query_place"]["bias"]
    hidden = hidden + np.asarray(s.reading.pose[b, t, r]) @ p["query_pose"]["kernel"]
    q = x @ p["query"]["kernel"] + gelu(hidden) @ p["bend"]
    return rotated(q.reshape(TOKENS, HEADS, -1))


def nearness(s: Subject, b: int, t: int, r: int) -> np.ndarray:
    """What is taken from the logits (h, n, n), token by token."""
    place, pose = (np.exp(np.asarray(s.variables["params"][f"near_{name}"])) for name in ("place", "pose"))
    taken = np.empty((HEADS, TOKENS, TOKENS))
    for h, q, k in np.ndindex(taken.shape):
        (y, x), (v, u) = divmod(q, GRID[1]), divmod(k, GRID[1])
        taken[h, q, k] = place[h] * ((y - v) ** 2 + (x - u) ** 2) + pose[h] * float(s.reading.apart[b, t, r])
    return taken


def test_a_frame_that_reads_one_record_is_pytorchs_attention_to_it(subject):
    torch = pytest.importorskip("torch")
    s = subject
    one = jax.tree.map(lambda leaf: leaf[:, :, :1], s.reading)
    y = s("attend", s.tape, one, s.x)
    for b in range(BATCH):
        for t in range(FRAMES):
            r = int(one.record[b, t, 0])
            q, k, v = (
                torch.from_numpy(np.array(z).transpose(1, 0, 2).copy())
                for z in (queries(s, b, t, 0), s.tape.keys[b, r], s.tape.values[b, r])
            )
            mask = torch.from_numpy(-nearness(s, b, t, 0))
            wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).numpy()
            wanted = wanted.transpose(1, 0, 2).reshape(TOKENS, WIDTH)
            wanted = wanted @ np.asarray(s.variables["params"]["out"]["kernel"])
            np.testing.assert_allclose(y[b, t], wanted, atol=1e-12)


def test_all_that_is_read_shares_one_softmax(subject):
    """Each record with its own queries; the invalid ones are as if they were not there."""
    s = subject
    valid = np.array([[[1, 1, 1], [1, 0, 1], [0, 1, 0]], [[1, 1, 0], [1, 1, 1], [0, 0, 1]]], bool)
    y = s("attend", s.tape, s.reading._replace(valid=jnp.asarray(valid)), s.x)
    for b in range(BATCH):
        for t in range(FRAMES):
            logits, values = [], []
            for r in np.flatnonzero(valid[b, t]):
                record = int(s.reading.record[b, t, r])
                q, k = queries(s, b, t, r), np.asarray(s.tape.keys[b, record])
                scores = np.einsum("qhe,khe->hqk", q, k) / np.sqrt(WIDTH // HEADS)
                logits.append(scores - nearness(s, b, t, r))
                values.append(np.asarray(s.tape.values[b, record]))
            logits, values = np.concatenate(logits, axis=2), np.concatenate(values)
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            weights = weights / weights.sum(-1, keepdims=True)
            wanted = np.einsum("hqk,khe->qhe", weights, values).reshape(TOKENS, WIDTH)
            wanted = wanted @ np.asarray(s.variables["params"]["out"]["kernel"])
            np.testing.assert_allclose(y[b, t], wanted, atol=1e-12)


def test_who_reads_nothing_gets_exactly_zero_and_a_finite_gradient(subject):
    s = subject
    nothing = s.reading._replace(valid=jnp.zeros_like(s.reading.valid))

    def total(variables, tape, x):
        return jnp.square(s.mixer.apply(variables, tape, nothing, x, method="attend") + 1).sum()

    assert np.all(np.asarray(s("attend", s.tape, nothing, s.x)) == 0)
    empty = s.mixer.empty_tape(BATCH, TOKENS, RECORDS)
    for tape in (s.tape, empty):
        gradients = jax.jit(jax.grad(total, (0, 1, 2)))(s.variables, tape, s.x)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
        assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(gradients[1:]))


def test_a_record_is_of_its_own_frame_alone_and_in_the_compute_dtype(subject):
    s = subject
    whole = s("record", s.x)
    for t in range(FRAMES):
        alone = s("record", s.x[:, t : t + 1])
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(alone)):
            np.testing.assert_allclose(a[:, t : t + 1], b, atol=1e-14)
    half = mixers.build(dataclasses.replace(s.config, dtype="bfloat16"))
    tape = half.empty_tape(1, TOKENS, 2)
    assert {leaf.dtype for leaf in jax.tree.leaves(tape)} == {jnp.dtype("bfloat16")}


def test_the_place_in_the_frame_and_the_pose_of_a_record_count(subject):
    """Tokens that change places, and a record seen from elsewhere, are read in another way."""
    s = subject
    y = s("attend", s.tape, s.reading, s.x)
    order = np.array([1, 0, 2, 3, 4, 5])
    swapped = s("attend", s.tape, s.reading, s.x[:, :, order])
    assert np.abs(swapped - y[:, :, order]).max() > 1e-3
    moved = s.reading._replace(pose=s.reading.pose + 0.1)
    assert np.abs(s("attend", s.tape, moved, s.x) - y).max() > 1e-4


def test_heads_start_as_a_look_up_and_as_no_preference(subject):
    """The first head reads its own place in the nearest frame; the last one nearly everything alike."""
    s = subject
    weights = np.exp(np.asarray(first_log_weights(jax.random.key(0), (4,), jnp.dtype("float64"))))
    np.testing.assert_allclose(weights, [2, 0.43088694, 0.09283178, 0.02], rtol=1e-6)
    still = jax.tree.map(jnp.zeros_like, s.variables["params"])
    near = {name: jnp.log(jnp.asarray([50.0, 1e-9])) for name in ("near_place", "near_pose")}
    still = still | near | {"out": {"kernel": jnp.eye(WIDTH)}}
    apart = jnp.asarray([0.0, 1.0, 2.0])
    reading = s.reading._replace(apart=jnp.broadcast_to(apart, s.reading.apart.shape))
    y = s.mixer.apply({"params": still}, s.tape, reading, s.x, method="attend")
    for b, t in np.ndindex(BATCH, FRAMES):
        nearest = np.asarray(s.tape.values[b, reading.record[b, t, 0], :, 0])
        np.testing.assert_allclose(y[b, t, :, : WIDTH // HEADS], nearest, atol=1e-6)
        every = np.asarray(s.tape.values[b, reading.record[b, t], :, 1]).mean((0, 1))
        np.testing.assert_allclose(y[b, t, :, WIDTH // HEADS :], np.tile(every, (TOKENS, 1)), atol=1e-6)
