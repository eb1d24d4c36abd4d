"""Runs that start from another model's parameters: every parameter of the base, a fresh memory, and the same first step."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from rad_jax.config import ConfigError, MeshConfig
from rad_jax.main import main
from rad_jax.model import RAD
from rad_jax.model.names import map_named, named_leaves
from rad_jax.runs.checkpoints import Checkpoints
from rad_jax.runs.export import export
from rad_jax.runs.initial import check_source, initial_params, is_memory, read_source
from rad_jax.runs.training_run import open_training_run
from rad_jax.training import sharding
from rad_jax.training.start import start_state
from rad_jax.weights import WeightsError, import_oasis_dit
from rad_jax.weights.tensors import read_tensors
from tests.toy_run import assert_same, read_state


@pytest.fixture(scope="module")
def base(toy, tmp_path_factory):
    """A run without memory, and its export."""
    workdir = tmp_path_factory.mktemp("base") / "run"
    shutil.copytree(toy.written("df"), workdir)
    export(workdir)
    return workdir


@pytest.fixture(scope="module")
def oasis(toy, tmp_path_factory):
    """Weights of an Open-Oasis DiT of the size of the test runs."""
    from tests.weights import oasis_torch

    config = open_training_run(toy.config("df")).config.model
    weights = oasis_torch.random_weights(
        config.width,
        config.depth,
        head_width=config.width // config.heads,
        hidden=int(config.mlp_ratio),
        channels=config.latent[-1],
        patch=config.patch,
        actions=config.action_dim,
    )
    path = tmp_path_factory.mktemp("oasis") / "dit.safetensors"
    save_file({name: weight.numpy() for name, weight in weights.items()}, path)
    return path


def start(toy, source, variant="lstm-f"):
    """What a run begins with: its parts, its state."""
    settings = {"train.init_from": str(source), "memory.gate_init": 0.0, "memory.head_width": 8}
    parts = open_training_run(toy.config(variant, settings))
    directory = toy.directory / "started" / f"{variant} {len(list(toy.directory.glob('started/*')))}"
    with Checkpoints(directory, parts.config.checkpoint) as checkpoints:
        found = read_source(source) if source else None
        return parts, start_state(parts, sharding.make_mesh(MeshConfig()), checkpoints, found)


def started(source, params, config, tokenizer=None):
    """Parameters with the values of a source, after its check."""
    found = read_source(source)
    check_source(found, config, tokenizer)
    return initial_params(found, params)


@pytest.fixture(scope="module")
def fresh(toy):
    """The parts and the random parameters of a variant, made once."""

    @functools.cache
    def of(variant="lstm-f"):
        parts, state = start(toy, "", variant)
        return parts, state.params

    return of


def predict(parts, params, memory=None):
    """One window; the memory, if there is one, is not empty."""
    rng = np.random.default_rng(0)
    config = parts.config.model
    frames = jnp.asarray(rng.normal(size=(2, 4, *config.latent)), jnp.float32)
    actions = jnp.asarray(rng.normal(size=(2, 4, config.action_dim)), jnp.float32)
    levels = jnp.asarray(rng.integers(0, 100, (2, 4)))
    memory = jax.tree.map(lambda m: m + 1, RAD(config).initial_memory(2))
    return window(RAD(config), params, frames, levels, actions, memory)


@functools.partial(jax.jit, static_argnums=0)
def window(model, params, frames, levels, actions, memory):
    return model.apply({"params": params}, frames, levels, actions, memory)[0]


@pytest.mark.parametrize(
    ("kind", "variant"),
    [
        ("run", "df"),
        ("run", "lstm-f"),
        ("export", "lstm-f"),
        ("file", "lstm-f"),
        ("oasis", "lstm-f"),
        ("oasis", "df"),
    ],
)
def test_every_parameter_of_the_base_is_set_and_the_memory_is_fresh(kind, variant, toy, fresh, base, oasis):
    source = {"run": base, "export": base / "export", "file": base / "export" / "model.safetensors"}
    source = source.get(kind, oasis)
    if kind == "oasis":
        expected = named_leaves(import_oasis_dit(oasis)[1])
    else:
        expected = named_leaves(read_state(base, open_training_run(toy.config("df")))[0].ema)
    parts, random = fresh(variant)
    found = named_leaves(started(source, random, parts.config.model))
    assert_same({name: found[name] for name in expected}, expected)
    memory = {name: leaf for name, leaf in found.items() if name not in expected}
    assert all(map(is_memory, memory)) and bool(memory) == (variant != "df")
    assert_same(memory, {name: named_leaves(random)[name] for name in memory})


def test_the_first_prediction_is_the_base_models_bit_for_bit(fresh, base, oasis):
    """Of a run and of the weights of Open-Oasis, with the memory's gate at zero and something in the memory."""
    for source in (base, oasis):
        (df, _), (parts, _) = fresh("df"), fresh()
        without, params = (
            started(source, random, one.config.model) for one, random in (fresh("df"), fresh())
        )
        expected = predict(df, without)
        assert np.std(expected) > 0.01
        np.testing.assert_array_equal(predict(parts, params), expected)
        opened = map_named(
            lambda name, leaf: leaf + jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape) * is_memory(name),
            params,
        )
        assert np.abs(predict(parts, opened) - expected).max() > 1e-3


def test_a_run_from_a_file_is_the_run_from_its_work_directory(toy, base, capsys):
    """Both begin with the same bits; then one is trained with a frozen base, which is untouched in the end."""
    file = base / "export" / "model.safetensors"
    (_, one), (_, other) = start(toy, base), start(toy, file)
    assert_same(one, other)
    assert_same(one.ema, one.params)
    assert one.step == 0
    workdir = toy.directory / "tuned"
    assert main(toy.arguments(workdir, train__freeze="base", train__steps=3, train__init_from=file)) == 0
    frozen_base = {"train.freeze": "base", "train.init_from": str(file)}
    state, step = read_state(workdir, open_training_run(toy.config(changes=frozen_base)))
    frozen, tuned = read_tensors(file), named_leaves(state.params)
    assert_same({name: tuned[name] for name in frozen}, frozen)
    begun = named_leaves(other.params)
    assert any(np.abs(tuned[name] - begun[name]).max() > 0 for name in set(tuned) - set(frozen))
    assert state.step == step == 3
    capsys.readouterr()


def test_a_memory_of_the_same_kind_goes_on_and_another_is_refused(toy, fresh, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(toy.written("lstm-f"), workdir)
    file = export(workdir) / "model.safetensors"
    expected = read_tensors(file)
    for source in (workdir, file):
        parts, random = fresh()
        found = named_leaves(started(source, random, parts.config.model))
        assert_same(found, {name: expected[name] for name in found})
        for variant in ("ttt-f", "df"):
            kind = variant.partition("-")[0].replace("df", "none")
            error = refusal(source, open_training_run(toy.config(variant)).config.model)
            assert error.startswith(
                f"train.init_from={source}: is another model, with memory.kind=lstm, here {kind}"
            )
    assert main(toy.arguments(tmp_path / "new", variant="df", train__init_from=file)) == 1
    assert capsys.readouterr().err == f"error: {error}\n"
    assert not (tmp_path / "new" / "config.json").exists()


def refusal(source, config) -> str:
    """What is said of a source, before any parameter is looked at."""
    with pytest.raises((ConfigError, WeightsError)) as info:
        check_source(read_source(source), config)
    assert len(str(info.value).splitlines()) == 1
    return str(info.value)


@pytest.mark.parametrize(
    ("kind", "key", "value", "words"),
    [
        ("run", "model.width", 32, "model.width=16, here 32"),
        ("run", "model.heads", 1, "model.heads=2, here 1"),
        ("file", "model.heads", 4, "model.heads=2, here 4"),
        ("oasis", "model.depth", 3, "model.depth=2, here 3"),
        ("oasis", "data.condition", "action+pose", "model.action_dim=6, here 16"),
    ],
)
def test_a_model_of_another_size_is_refused_in_one_line(kind, key, value, words, toy, base, oasis):
    """The number of heads is in no shape: such a run would start, and generate noise."""
    source = {"run": base, "file": base / "export" / "model.safetensors", "oasis": oasis}[kind]
    error = refusal(source, open_training_run(toy.config(changes={key: value})).config.model)
    assert error.startswith(f"train.init_from={source}: is another model, with") and words in error


def test_files_that_are_no_model_are_refused_in_one_line(toy, base, oasis, tmp_path, capsys):
    tensors = read_tensors(base / "export" / "model.safetensors")
    save_file(tensors, tmp_path / "nameless.safetensors")
    weights = read_tensors(oasis)
    save_file({n: w for n, w in weights.items() if n != "external_cond.bias"}, tmp_path / "less.safetensors")
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x02.")
    (tmp_path / "empty").mkdir()
    (tmp_path / "started" / "checkpoints").mkdir(parents=True)
    shutil.copyfile(base / "config.json", tmp_path / "started" / "config.json")
    config = open_training_run(toy.config()).config.model
    for name, words in {
        "nameless.safetensors": "neither a DiT of Open-Oasis nor a model exported by --mode export",
        "less.safetensors": "1 missing (external_cond.bias)",
        "pickle.pt": "is not a .safetensors file",
        "nowhere": "does not exist; expected the work directory of a run or a .safetensors file",
        "empty": "there is no run (no config.json)",
        "started": "there is no checkpoint",
    }.items():
        error = refusal(tmp_path / name, config)
        assert words in error and str(tmp_path / name) in error, error
    assert main(toy.arguments(tmp_path / "new", train__init_from=tmp_path / name)) == 2
    assert capsys.readouterr().err == f"error: {error}\n"
    assert not (tmp_path / "new" / "config.json").exists()


def test_another_tokenizer_is_warned_of(fresh, base, caplog):
    parts, random = fresh("df")
    started(base, random, parts.config.model, parts.tokenizer.fingerprint)
    assert not caplog.records
    for source in (base, base / "export"):
        started(source, random, parts.config.model, "f" * 64)
        assert f"train.init_from={source}" in caplog.text and "they mean something else" in caplog.text
        caplog.clear()
