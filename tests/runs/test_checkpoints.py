"""Whatever happens to a checkpoint, what is restored is bit for bit what was saved, or it is refused."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rad_jax.config import CheckpointConfig, OptimizerConfig, TrainConfig
from rad_jax.files import WorkdirInUse, WorkdirLock
from rad_jax.model.names import named_leaves
from rad_jax.runs import manifest
from rad_jax.runs.checkpoints import CheckpointError, CheckpointMismatch, Checkpoints
from rad_jax.training import optimizer


def config(keep=3, keep_every=0):
    return CheckpointConfig(every=1, keep=keep, keep_every=keep_every)


def make_state(step=0, width=8):
    """A state with everything a real one has: masked moments, an average, bfloat16, a step."""
    key = jax.random.fold_in(jax.random.key(7), step)
    params = {
        "block": {"kernel": jax.random.normal(key, (2, 4, width)), "bias": jnp.full((2, width), 0.1 * step)},
        "base": {"kernel": jax.random.normal(key, (3, 3)).astype(jnp.bfloat16)},
    }
    rule = optimizer.make(OptimizerConfig(), TrainConfig(), frozen=lambda name: name.startswith("base"))
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
            assert checkpoints.save(step, make_state(step), {"data_position": step})


def biggest_file(step_directory):
    return max(
        (p for p in (step_directory / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )


def test_restores_every_bit_and_the_metadata(tmp_path):
    metadata = {"config": {"lr": 1e-3, "latent": [8, 8, 16]}, "tokenizer": "ab12", "data_position": 5}
    with Checkpoints(tmp_path / "c", config()) as checkpoints:
        assert checkpoints.restore(make_state()) is None
        assert checkpoints.save(5, make_state(5), metadata)
        assert not checkpoints.save(5, make_state(6), metadata)
        with pytest.raises(CheckpointError, match="older than 5"):
            checkpoints.save(4, make_state(4), metadata)
    with Checkpoints(tmp_path / "c") as checkpoints:
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
        assert checkpoints.save(2, make_state(2), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "2.damaged"]


def test_a_truncated_step_is_set_aside_at_the_start(tmp_path):
    save_steps(tmp_path, [1, 2])
    victim = biggest_file(tmp_path / "2")
    victim.write_bytes(victim.read_bytes()[:-1])
    with Checkpoints(tmp_path, config()) as checkpoints:
        assert checkpoints.steps() == [1]
    assert (tmp_path / "2.damaged").is_dir()


def test_a_flipped_bit_is_found_in_every_file(tmp_path):
    save_steps(tmp_path, [1])
    files = [
        p for name in ("state", "manifest") for p in (tmp_path / "1" / name).rglob("*") if p.stat().st_size
    ]
    files = [p for p in files if p.is_file() and p.name != "commit_success.txt"]
    assert len(files) > 5
    for path in files:
        body = path.read_bytes()
        for position in (0, len(body) // 2, len(body) - 1):
            path.write_bytes(body[:position] + bytes([body[position] ^ 2]) + body[position + 1 :])
            with pytest.raises(manifest.DamagedCheckpoint):
                manifest.verify(tmp_path / "1")
        path.write_bytes(body)
    assert manifest.verify(tmp_path / "1").step == 1


def test_nothing_outside_the_manifest_is_needed(tmp_path):
    save_steps(tmp_path, [1])
    covered = {
        tmp_path / "1" / name for name in json.loads((tmp_path / "1" / manifest.FILE).read_text())["files"]
    }
    for path in (tmp_path / "1").rglob("*"):
        if path.is_file() and path not in covered and path.name != manifest.FILE.name:
            path.write_bytes(b"")
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(make_state())[0], make_state(1))


def test_a_reader_skips_damage_and_changes_nothing(tmp_path):
    save_steps(tmp_path, [1, 2])
    biggest_file(tmp_path / "2").unlink()
    before = sorted(tmp_path.rglob("*"))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(make_state())[1].step == 1
        with pytest.raises(CheckpointError, match=r"checkpoint 2 .* is missing; there: 1, 2"):
            checkpoints.restore(make_state(), step=2)
        assert checkpoints.restore(make_state(), step=1)[1].step == 1
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
        assert checkpoints.steps() == [1]
        assert checkpoints.restore(make_state())[1].step == 1
        checkpoints.save(2, make_state(2), {})
    warned = [r.getMessage() for r in caplog.records if r.name.startswith("rad_jax")]
    assert len(warned) == 2 and "checkpoint 7" in warned[0] and "checkpoint 9" in warned[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "7.damaged", "9.damaged", "notes"]


def test_mismatch_names_the_first_parameter(tmp_path):
    save_steps(tmp_path, [1])
    with Checkpoints(tmp_path) as checkpoints:
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


def test_restores_a_part_and_leaves_new_parameters_alone(tmp_path):
    save_steps(tmp_path, [4])
    with Checkpoints(tmp_path) as checkpoints:
        ema, content = checkpoints.restore_part("ema", optimizer.ema_init(make_state()["params"]))
        assert_same(ema, make_state(4)["ema"])
        assert content.step == 4
        target = make_state()["params"] | {"memory": {"gate": jnp.full(3, 0.5)}}
        with pytest.raises(CheckpointMismatch, match="params/memory/gate is absent there"):
            checkpoints.restore_part("params", target)
        params, _ = checkpoints.restore_part(
            "params", target, optional=lambda name: name.startswith("memory/")
        )
    assert_same(params, make_state(4)["params"] | {"memory": {"gate": jnp.full(3, 0.5)}})


def test_another_format_is_refused_and_left_in_place(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "FORMAT", 2)
    save_steps(tmp_path, [1])
    monkeypatch.undo()
    with (
        pytest.raises(manifest.UnknownFormat, match="format 2, this version reads 1"),
        Checkpoints(tmp_path) as checkpoints,
    ):
        checkpoints.restore(make_state())
    assert (tmp_path / "1").is_dir()


def test_a_manifest_cannot_name_files_outside(tmp_path):
    save_steps(tmp_path, [1])
    (tmp_path / "secret").write_text("x")
    path = tmp_path / "1" / manifest.FILE
    body = json.loads(path.read_text())
    del body["sha256"]
    body["files"]["../secret"] = [1, "00"]
    path.write_text(json.dumps({**body, "sha256": manifest._sha256_of(body)}))
    with pytest.raises(manifest.DamagedCheckpoint, match="outside"):
        manifest.read(tmp_path / "1")


@pytest.mark.parametrize("last", [False, True])
def test_a_failed_save_is_raised_by_the_next_or_by_close(tmp_path, monkeypatch, last):
    def full(*_):
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(tmp_path / "c", config())
    checkpoints.save(1, make_state(1), {})
    checkpoints.wait()
    monkeypatch.setattr(manifest.Manifest, "write", full)
    assert checkpoints.save(2, make_state(2), {})
    with pytest.raises(
        CheckpointError, match=r"checkpoint 2 could not be written to .*No space left"
    ) as info:
        checkpoints.close() if last else checkpoints.save(3, make_state(3), {})
    assert "\n" not in str(info.value)
    checkpoints.close()
    monkeypatch.undo()
    with Checkpoints(tmp_path / "c", config()) as again:
        assert again.restore(make_state())[1].step == 1
        assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["1"]
        assert again.save(2, make_state(2), {})


def run(program, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_while_saving(tmp_path):
    program = """
        import sys
        import jax.numpy as jnp
        from rad_jax.runs.checkpoints import Checkpoints
        from rad_jax.config import CheckpointConfig
        checkpoints = Checkpoints(sys.argv[1], CheckpointConfig(every=1, keep=2))
        for step in range(1, 10_000):
            params = {str(i): jnp.full((300, 300), 1000.0 * i + step) for i in range(8)}
            checkpoints.save(step, {"params": params, "step": jnp.int32(step)}, {})
    """
    process = run(program, tmp_path)
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline and process.poll() is None:
            if (tmp_path / "5").exists() and any(tmp_path.glob("*.orbax-checkpoint-tmp")):
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert any(tmp_path.glob("*.orbax-checkpoint-tmp")), "not killed inside a save"
    target = {"params": {str(i): jnp.zeros((300, 300)) for i in range(8)}, "step": jnp.int32(0)}
    with Checkpoints(tmp_path, config(keep=2)) as checkpoints:
        assert not any(tmp_path.glob("*.orbax-checkpoint-tmp"))
        state, content = checkpoints.restore(target)
        assert content.step >= 5 and int(state["step"]) == content.step
        for i in range(8):
            np.testing.assert_array_equal(state["params"][str(i)], 1000.0 * i + content.step)
        assert checkpoints.save(content.step + 1, state, {})
    assert not list(tmp_path.glob("*.damaged"))


def test_written_on_eight_devices_read_on_one(tmp_path):
    program = """
        import sys
        import jax, jax.numpy as jnp
        from rad_jax.training import sharding
        from rad_jax.runs.checkpoints import Checkpoints
        from rad_jax.config import CheckpointConfig, MeshConfig
        mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=4))
        kernel = jnp.arange(2 * 8 * 4.0).reshape(2, 8, 4)
        state = {"params": {"block": {"kernel": kernel}}, "step": jnp.int32(3)}
        sharding.REPLICATED_BELOW = 0
        state = jax.device_put(state, sharding.state_shardings(state, mesh))
        assert len(state["params"]["block"]["kernel"].addressable_shards[0].data[0]) == 2
        with Checkpoints(sys.argv[1], CheckpointConfig()) as checkpoints:
            checkpoints.save(3, state, {})
    """
    process = run(program, tmp_path, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    process.communicate()
    assert process.returncode == 0
    target = {
        "params": {"block": {"kernel": jax.ShapeDtypeStruct((2, 8, 4), jnp.float32)}},
        "step": jax.ShapeDtypeStruct((), jnp.int32),
    }
    with Checkpoints(tmp_path) as checkpoints:
        state, _ = checkpoints.restore(target)
    np.testing.assert_array_equal(state["params"]["block"]["kernel"], np.arange(64.0).reshape(2, 8, 4))
    assert len(state["params"]["block"]["kernel"].devices()) == 1


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
        shardings = sharding.state_shardings(state, mesh)

        def at(step):
            place = lambda x, s: jax.make_array_from_callback(x.shape, s, lambda index: x[index] + step)
            return jax.tree.map(place, state, shardings)

        target = sharding.with_shardings(state, shardings)
        with Checkpoints(directory, CheckpointConfig(every=1, keep=2)) as checkpoints:
            assert checkpoints.restore(target) is None
            for step in (1, 2, 3):
                assert checkpoints.save(step, at(step), {})
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


def test_training_goes_on_exactly_after_a_restore(tmp_path):
    rule = optax.adamw(1e-2)
    params = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4)}
    x = jax.random.normal(jax.random.key(0), (5, 3))

    @jax.jit
    def step(state):
        loss = jax.grad(lambda p: jnp.sum(jnp.tanh(x @ p["w"]) ** 2))
        updates, opt = rule.update(loss(state["params"]), state["opt"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt": opt}

    straight = {"params": params, "opt": rule.init(params)}
    for i in range(6):
        straight = step(straight)
        if i == 2:
            with Checkpoints(tmp_path, config()) as checkpoints:
                checkpoints.save(3, straight, {})
    with Checkpoints(tmp_path, config()) as checkpoints:
        resumed, _ = checkpoints.restore(jax.eval_shape(lambda: {"params": params, "opt": rule.init(params)}))
    for _ in range(3):
        resumed = step(resumed)
    assert_same(resumed, straight)


def test_one_writer_per_working_directory(tmp_path):
    program = """
        import sys, time
        from rad_jax.files import WorkdirLock
        lock = WorkdirLock(sys.argv[1])
        print("held", flush=True)
        time.sleep(60)
    """
    process = run(program, tmp_path)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(WorkdirInUse, match=rf"in use by process {process.pid} on ") as info:
            WorkdirLock(tmp_path)
        assert "\n" not in str(info.value)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    # What a killed process leaves does not lock.
    with WorkdirLock(tmp_path), pytest.raises(WorkdirInUse, match=f"process {os.getpid()} "):
        WorkdirLock(tmp_path)
    WorkdirLock(tmp_path).close()
