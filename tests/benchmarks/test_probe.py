"""What a probe is given of a model, against the model's own methods; and its reader, against ridge regression written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import probe
from rad_jax import diffusion
from rad_jax.data import DataError, Episodes
from rad_jax.rollout.predict import read_clip
from rad_jax.runs.restore import load_trained

CONTEXT, WINDOW = 8, 4


@pytest.fixture(scope="module", params=["lstm-f", "lstm-c", "atlas-f"])
def asked(request, toy):
    """A run with random parameters, and what a probe collects of two clips."""
    trained = load_trained(toy.written(request.param, "action+pose"))
    episodes = Episodes(toy.mazes, "test")
    clips = [read_clip(episodes, i, trained.config, trained.tokenizer, CONTEXT) for i in range(2)]
    return trained, clips, probe.collect(trained, clips)


def applied(trained, **options):
    """The model as a compiled function."""
    return jax.jit(lambda *inputs: trained.model.apply({"params": trained.params}, *inputs, **options))


def memory_after(trained, apply, latents, actions):
    """By sliding over the context."""
    model = trained.model
    stride, memory = model.config.memory.stride, model.initial_memory(1)
    for start in range(0, CONTEXT, stride):
        here = slice(start, start + stride)
        levels = jnp.full((1, stride), model.config.context_level)
        _, memory = apply(latents[:, here], levels, actions[:, here], memory)
    return memory


def test_what_is_made_is_the_prediction_of_a_frame_alone_with_the_memory_of_the_context(asked):
    trained, clips, found = asked
    config, level = trained.config, jnp.full((1, 1), trained.config.diffusion.levels - 1)
    key = jax.random.fold_in(jax.random.key(config.seed), probe.PROBE)
    noise = jax.random.normal(key, (1, 1, *config.model.latent))
    assert found.clip.tolist() == np.repeat([0, 1], WINDOW).tolist()
    apply = applied(trained)
    for number, clip in enumerate(clips):
        latents, actions = clip.encoded(trained.tokenizer)[None], jnp.asarray(clip.actions)[None]
        memory = memory_after(trained, apply, latents, actions)
        for w in range(WINDOW):
            here = slice(CONTEXT + w, CONTEXT + w + 1)
            prediction, _ = apply(noise, level, actions[:, here], memory)
            clean, _ = diffusion.clean_and_noise(config.diffusion, noise, prediction, level)
            row = number * WINDOW + w
            np.testing.assert_allclose(found.made[row], clean.ravel(), rtol=0, atol=2e-4)
            np.testing.assert_allclose(found.truth[row], latents[0, here].ravel(), atol=1e-6)
        np.testing.assert_allclose(found.context[number], latents[0, :CONTEXT].ravel(), atol=1e-6)
        kept = sum(leaf.size for leaf in jax.tree.leaves((memory.state, memory.tape)))
        assert found.stored.shape == (2, kept)
        if not memory.slots:
            np.testing.assert_allclose(found.stored[number], probe._flat(memory)[0], atol=2e-4)


def test_what_is_read_is_all_that_the_model_knows_of_its_memory(asked):
    """Its rows differ where memories do; without a memory they would depend on the condition alone."""
    trained, _, found = asked
    model = trained.model.config
    tokens = model.grid[0] * model.grid[1]
    assert found.read.shape == (2 * WINDOW, model.depth * tokens * model.width)
    of_layers = found.read.reshape(2, WINDOW, model.depth, -1)
    assert (np.ptp(of_layers, axis=0).max(-1) > 1e-3).all()
    assert (np.ptp(of_layers, axis=1).max(-1) > 1e-3).all()


def test_captured_numbers_are_what_the_mixer_returns(asked):
    """Without them, times the gate, the branch of the first layer is left with its input, which no memory changes."""
    trained, clips, found = asked
    model = trained.model
    latents, actions = clips[0].encoded(trained.tokenizer)[None], jnp.asarray(clips[0].actions)[None]
    key = jax.random.fold_in(jax.random.key(trained.config.seed), probe.PROBE)
    noise = jax.random.normal(key, (1, 1, *model.config.latent))
    level = jnp.full((1, 1), trained.config.diffusion.levels - 1)
    apply = applied(
        trained,
        capture_intermediates=lambda module, method: (
            module.name in ("memory", "modulation") or probe._is_read(module, method)
        ),
        mutable="intermediates",
    )

    def first_layer(memory):
        """What the mixer returns, its gate, and what the branch returns."""
        _, captured = apply(noise, level, actions[:, CONTEXT : CONTEXT + 1], memory)
        branch = captured["intermediates"]["block"]["memory"]
        gate = branch["modulation"]["__call__"][0][2]
        return probe._returned(captured)[0], gate[0], branch["__call__"][0][0][0]

    read, gate, after = first_layer(memory_after(trained, applied(trained), latents, actions))
    nothing, same_gate, otherwise = first_layer(model.initial_memory(1))
    of_first = found.read[0].reshape(model.config.depth, -1)[0]
    np.testing.assert_allclose(of_first, read.ravel(), rtol=0, atol=2e-4)
    np.testing.assert_array_equal(gate, same_gate)
    assert jnp.abs(gate * (read - nothing)).max() > 1e-2
    np.testing.assert_allclose(after - gate * read, otherwise - gate * nothing, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def made_up():
    """Frames whose latents are a linear function of what is stored, another one for each pose."""
    rng = np.random.default_rng(0)
    clips, queries = 160, 2  # 240 rows to fit to
    clip, angle = np.repeat(np.arange(clips), queries), rng.uniform(0, 2 * np.pi, clips * queries)
    pose = np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)
    stored, other = (rng.normal(size=(clips, 3)).astype(np.float32) for _ in range(2))
    maps = rng.normal(size=(3, 3, 5))  # of the constant, the cosine and the sine
    seen = np.einsum("mp,pso->mso", np.concatenate([np.ones((len(pose), 1)), pose], 1), maps)
    truth = np.einsum("ms,mso->mo", stored[clip], seen).astype(np.float32)
    return probe.Samples(clip, pose, stored, other, truth[:, :3] + stored[clip], truth * 0.5, truth)


def test_a_reader_finds_what_is_there_and_nothing_where_nothing_is(made_up, monkeypatch):
    monkeypatch.setattr(probe, "WIDTHS", (0.4, 0.8))
    parts = probe.Parts.of(160)
    assert [len(part) for part in parts] == [120, 20, 20]
    assert probe.explained(made_up, parts, made_up.stored) > 0.98
    assert probe.explained(made_up, parts, made_up.context) < 0.1
    assert abs(probe.explained(made_up, parts)) < 0.1
    few = parts._replace(fitted=parts.fitted[:12])
    assert (
        probe.explained(made_up, few, made_up.stored) < probe.explained(made_up, parts, made_up.stored) - 0.1
    )
    text = probe.table(made_up)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[1:]}
    assert set(rows) == {"pose", "stored", "read", "context", "made"}
    assert float(rows["made"][0]) == pytest.approx(
        0.75, abs=0.02
    )  # half of what is right: a quarter of it is missing
    assert rows["stored"][2] == "3"


def test_the_reader_is_ridge_regression_with_its_kernel(made_up, monkeypatch):
    """At one width and one ridge: the solution of a linear system, frame by frame."""
    monkeypatch.setattr(probe, "WIDTHS", (0.5,))
    monkeypatch.setattr(probe, "RIDGES", (0.1,))
    parts = probe.Parts.of(160)
    fitted, scored = (np.flatnonzero(made_up.clip < 120), np.flatnonzero(made_up.clip >= 140))
    mean = made_up.stored[:120].mean(0)
    deviation = np.sqrt(((made_up.stored[:120] - mean) ** 2).mean(0))

    def kernel(i, j):
        x, y = ((made_up.stored[made_up.clip[n]] - mean) / deviation for n in (i, j))
        apart = ((made_up.pose[i] - made_up.pose[j]) ** 2).sum()
        return np.exp(-apart / (2 * 0.5**2)) * (1 + x @ y / 3)

    gram = np.array([[kernel(i, j) for j in fitted] for i in fitted])
    centre = made_up.truth[fitted].mean(0)
    weights = np.linalg.solve(gram + 0.1 * np.eye(len(fitted)), made_up.truth[fitted] - centre)
    predicted = np.array([[kernel(i, j) for j in fitted] for i in scored]) @ weights
    truth = made_up.truth[scored] - centre
    wanted = 1 - ((truth - predicted) ** 2).sum() / (truth**2).sum()
    assert probe.explained(made_up, parts, made_up.stored) == pytest.approx(wanted, abs=1e-5)


def test_what_cannot_be_asked_is_said(toy):
    trained = load_trained(toy.written("lstm-f"))
    episodes = Episodes(toy.mazes, "test")
    clip = read_clip(episodes, 0, trained.config, trained.tokenizer, CONTEXT)
    with pytest.raises(DataError, match="asks by pose"):
        probe.collect(trained, [clip])
    trained = load_trained(toy.written("lstm-f", "action+pose"))
    clip = read_clip(episodes, 0, trained.config, trained.tokenizer, CONTEXT, stop=CONTEXT + 2)
    with pytest.raises(DataError, match="4 to predict"):
        probe.collect(trained, [clip])


def test_the_command_prints_the_table(toy, capsys, monkeypatch):
    monkeypatch.setattr(probe, "WIDTHS", (0.5,))
    command = ["--workdir", str(toy.written("lstm-f", "action+pose")), "--context", "6"]
    probe.main([*command, "--clips", "8"])
    lines = capsys.readouterr().out.splitlines()
    assert "8 clips" in lines[0] and "context 6" in lines[0] and len(lines) == 7
    assert probe.main([*command, "--data", str(toy.mazes), "--split", "test"]) == 2
    assert "3 clips: expected at least 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workdir", "nowhere"], "nowhere holds no run"),
        (["--workdir", "RUN", "--data", "nowhere", "--context", "6"], "no data set at nowhere"),
        (["--workdir", "RUN"], "n_context"),
        (["--workdir", "RUN", "--data", "gs://a"], "gs://a"),
        (["--workdir", "RUN", "--clips", "0"], "an integer from 1"),
    ],
)
def test_a_mistake_is_one_line(options, words, toy, capsys):
    run = str(toy.written("lstm-f", "action+pose"))
    try:
        status = probe.main([run if option == "RUN" else option for option in options])
    except SystemExit as ended:  # of the options
        status = ended.code
    said = capsys.readouterr().err
    assert status == 2 and words in said.splitlines()[-1] and "Traceback" not in said
    assert len([line for line in said.splitlines() if "error:" in line]) == 1
