"""Whatever happens to a checkpoint, what is restored is bit for bit what was saved, or it is refused."""

import contextlib
import gc
import logging
import os
import re
import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config import CheckpointConfig, OptimizerConfig, TrainConfig
from rad_jax.model.names import named_leaves, nested
from rad_jax.runs import manifest
from rad_jax.runs.checkpoints import CheckpointError, CheckpointMismatch, Checkpoints, read_part
from rad_jax.training import optimizer
from tests.full_disk import small_files


def config(keep=3, keep_every=0):
    return CheckpointConfig(every=1, keep=keep, keep_every=keep_every)


def make_state(step=0, width=8):
    """A state with everything a real one has: moments, an average, bfloat16, a step."""
    key = jax.random.fold_in(jax.random.key(7), step)
    params = {
        "block": {"kernel": jax.random.normal(key, (2, 4, width)), "bias": jnp.full((2, width), 0.1 * step)},
        "base": {"kernel": jax.random.normal(key, (3, 3)).astype(jnp.bfloat16)},
    }
    rule = optimizer.make(OptimizerConfig(), TrainConfig())
    opt = rule.init(params)
    _, opt = rule.update(jax.tree.map(lambda p: p * 0.3, params), opt, params)
    return {"params": params, "opt": opt, "ema": optimizer.ema_init(params), "step": jnp.int32(step)}


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (name, x), y in zip(named_leaves(a).items(), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype, name
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), name


def save_steps(directory, steps, **kept):
    with Checkpoints(directory, config(**kept)) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"data_position": step})


def biggest_file(step_directory):
    return max(
        (p for p in (step_directory / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )


def test_restores_every_bit_and_the_metadata(tmp_path):
    metadata = {"config": {"lr": 1e-3, "latent": [8, 8, 16]}, "tokenizer": "ab12", "data_position": 5}
    with Checkpoints(tmp_path / "c", config()) as checkpoints:
        assert checkpoints.restore(make_state()) is None
        checkpoints.save(5, make_state(5), metadata)
        with pytest.raises(CheckpointError, match="checkpoint 5 could not be written"):
            checkpoints.save(5, make_state(6), metadata)
    with Checkpoints(tmp_path / "c", config()) as checkpoints:
        state, content = checkpoints.restore(make_state(0))
    assert_same(state, make_state(5))
    assert content.step == 5 and content.metadata == metadata


def test_a_donated_state_is_still_what_was_saved(tmp_path):
    state, expected = make_state(3), make_state(3)
    with Checkpoints(tmp_path / "c", config()) as checkpoints:
        checkpoints.save(3, state, {})
        jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)(state)
        checkpoints.wait()
        assert_same(checkpoints.restore(make_state())[0], expected)


def test_keeps_the_newest_and_every_nth(tmp_path):
    save_steps(tmp_path, range(1, 8), keep=2, keep_every=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "6", "7"]
    save_steps(tmp_path, [8], keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["8"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest", "metadata"])
def test_damage_is_found_announced_and_the_step_before_is_used(tmp_path, caplog, damage):
    save_steps(tmp_path, [1, 2])
    with Checkpoints(tmp_path, config()) as checkpoints:
        victim = biggest_file(tmp_path / "2")
        body = bytearray(victim.read_bytes())
        if damage == "flip":
            body[len(body) // 2] ^= 4
            victim.write_bytes(body)
        elif damage == "truncate":
            victim.write_bytes(body[:-7])
        elif damage == "delete":
            victim.unlink()
        else:
            victim = tmp_path / "2" / manifest.FILE
            text = victim.read_text()
            victim.write_text(
                text[:40]
                if damage == "manifest"
                else text.replace('"data_position": 2', '"data_position": 3')
            )
        with caplog.at_level(logging.WARNING, "rad_jax"):
            state, content = checkpoints.restore(make_state())
        assert content.step == 1
        assert_same(state, make_state(1))
        [warning] = [r.getMessage() for r in caplog.records if r.name.startswith("rad_jax")]
        assert "checkpoint 2" in warning and victim.name in warning and "\n" not in warning
        # The run goes on from step 1 and comes to step 2 again; what was damaged is still there to be looked at.
        checkpoints.save(2, make_state(2), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "2.damaged"]


def test_a_reader_skips_damage_and_changes_nothing(tmp_path):
    save_steps(tmp_path, [1, 2])
    biggest_file(tmp_path / "2").unlink()
    before = sorted(tmp_path.rglob("*"))
    assert read_part(tmp_path, "params")[1].step == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_intact_is_an_error_not_a_fresh_start(tmp_path):
    save_steps(tmp_path, [1])
    biggest_file(tmp_path / "1").unlink()
    for _ in range(2):
        with (
            Checkpoints(tmp_path, config()) as checkpoints,
            pytest.raises(CheckpointError, match="none of the checkpoints"),
        ):
            checkpoints.restore(make_state())


def test_junk_and_leftovers_do_not_count(tmp_path, caplog):
    save_steps(tmp_path, [1])
    (tmp_path / "7").mkdir()
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "note.txt").write_text("?")
    (tmp_path / "5.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (tmp_path / "discarded" / "0").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    with caplog.at_level(logging.WARNING, "rad_jax"), Checkpoints(tmp_path, config(keep=1)) as checkpoints:
        assert checkpoints.restore(make_state())[1].step == 1
        checkpoints.save(2, make_state(2), {})
    warned = [r.getMessage() for r in caplog.records if r.name.startswith("rad_jax")]
    assert len(warned) == 2 and "checkpoint 9" in warned[0] and "checkpoint 7" in warned[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "7.damaged", "9.damaged", "notes"]


def test_mismatch_names_the_first_parameter(tmp_path):
    save_steps(tmp_path, [1])
    with Checkpoints(tmp_path, config()) as checkpoints:
        with pytest.raises(CheckpointMismatch) as info:
            checkpoints.restore(make_state(width=16))
        message = str(info.value)
        assert "params/block/bias is float32[2, 8] there, float32[2, 16] here (and " in message
        assert "\n" not in message
        half = jax.tree.map(lambda x: x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x, make_state())
        with pytest.raises(CheckpointMismatch, match=r"float32\[2, 8\] there, bfloat16"):
            checkpoints.restore(half)
        without = make_state() | {"ema": None}
        with pytest.raises(
            CheckpointMismatch, match=r"ema/base/kernel is float32\[3, 3\] there, absent here"
        ):
            checkpoints.restore(without)
        more = make_state() | {"extra": jnp.zeros(2)}
        with pytest.raises(CheckpointMismatch, match=r"extra is absent there, float32\[2\] here;"):
            checkpoints.restore(more)


def test_a_part_is_read_by_its_names(tmp_path):
    save_steps(tmp_path, [4])
    for part in ("params", "ema"):
        arrays, content = read_part(tmp_path, part)
        assert_same(nested(arrays), make_state(4)[part])
        assert content.step == 4


def test_another_format_is_refused_and_left_in_place(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "FORMAT", 2)
    save_steps(tmp_path, [1])
    monkeypatch.undo()
    with (
        pytest.raises(manifest.UnknownFormat, match="format 2, this version reads 1"),
        Checkpoints(tmp_path, config()) as checkpoints,
    ):
        checkpoints.restore(make_state())
    assert (tmp_path / "1").is_dir()


@pytest.mark.parametrize("last", [False, True])
def test_a_failed_save_is_raised_by_the_next_or_by_close(tmp_path, monkeypatch, last):
    def full(*_):
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(tmp_path / "c", config())
    checkpoints.save(1, make_state(1), {})
    checkpoints.wait()
    monkeypatch.setattr(manifest.Manifest, "write", full)
    checkpoints.save(2, make_state(2), {})
    with pytest.raises(CheckpointError) as info:
        checkpoints.close() if last else checkpoints.save(3, make_state(3), {})
    first, second = str(info.value).splitlines()
    assert re.fullmatch(
        rf"checkpoint 2 could not be written: {tmp_path / 'c'}: no space left .* \([\d,]+ bytes are free\); .*",
        first,
    )
    assert re.fullmatch(r"it takes up to [\d,]+ bytes; the run continues from checkpoint 1", second)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["1"]  # room for others
    checkpoints.close()
    monkeypatch.undo()
    with Checkpoints(tmp_path / "c", config()) as again:
        assert again.restore(make_state())[1].step == 1
        again.save(2, make_state(2), {})
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["1", "2"]


@pytest.mark.parametrize("size", [8, 2000, 200_000])
def test_a_disk_that_is_really_full_leaves_one_error_and_the_step_before(size, tmp_path, caplog, capfd):
    """Orbax and TensorStore say nothing of what they raise, and the next save of the same step succeeds."""
    state = {"params": {f"p{i}": np.random.default_rng(i).random((100, 100), np.float32) for i in range(60)}}
    checkpoints = Checkpoints(tmp_path / "c", config())
    checkpoints.save(1, state, {})
    checkpoints.wait()
    with small_files(size):
        with pytest.raises(
            CheckpointError, match=r"checkpoint 2 .*: file too large .*\nit .* from checkpoint 1"
        ):
            checkpoints.save(2, state, {})
            checkpoints.wait()
        with contextlib.suppress(CheckpointError):
            checkpoints.close()
    gc.collect()  # of writes that nobody waited for
    assert not caplog.records and capfd.readouterr() == ("", "")
    with Checkpoints(tmp_path / "c", config()) as again:
        assert again.restore(state)[1].step == 1
        again.save(2, state, {})
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["1", "2"]


def run(program, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_write_read_and_fall_back_together(tmp_path):
    program = """
        import sys
        import jax
        rank, port, directory = int(sys.argv[1]), sys.argv[2], sys.argv[3]
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=rank)
        import pathlib
        import numpy as np
        from jax.experimental import multihost_utils
        from rad_jax.training import sharding
        from rad_jax.runs.checkpoints import Checkpoints
        from rad_jax.config import CheckpointConfig, MeshConfig

        mesh = sharding.make_mesh(MeshConfig(data=1, fsdp=4))
        kernel = np.arange(2 * 8 * 4, dtype=np.float32).reshape(2, 8, 4)
        state = {"params": {"block": {"kernel": kernel}}}
        sharding.REPLICATED_BELOW = 0
        target = sharding.with_shardings(jax.eval_shape(lambda: state), mesh)

        def at(step):
            place = lambda x, s: jax.make_array_from_callback(x.shape, s.sharding, lambda index: x[index] + step)
            return jax.tree.map(place, state, target)

        with Checkpoints(directory, CheckpointConfig(every=1, keep=2)) as checkpoints:
            assert checkpoints.restore(target) is None
            for step in (1, 2, 3):
                checkpoints.save(step, at(step), {})
            checkpoints.wait()
            if rank == 0:
                next(p for p in (pathlib.Path(directory) / "3" / "state").rglob("*") if p.is_file()).unlink()
            multihost_utils.sync_global_devices("damaged")
            restored, content = checkpoints.restore(target)
            assert content.step == 2
            pairs = zip(jax.tree.leaves(restored), jax.tree.leaves(at(2)))
            for shards in (zip(a.addressable_shards, b.addressable_shards) for a, b in pairs):
                for a, b in shards:
                    np.testing.assert_array_equal(a.data, b.data)
        batch = sharding.shard_batch({"x": np.full((4, 2), rank, np.float32)}, mesh)
        assert batch["x"].shape == (8, 2) and float(jax.jit(lambda x: x.mean())(batch["x"])) == 0.5
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = "--xla_force_host_platform_device_count=2"
    processes = [run(program, rank, port, tmp_path, XLA_FLAGS=flags) for rank in range(2)]
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3.damaged"]
