"""What lives where: the rule by shape, and eight simulated devices that agree with one."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from rad_jax.config import MeshConfig
from rad_jax.training import sharding

BLOCK, OTHER = "params/block/mlp/kernel", "params/embed/kernel"


@pytest.mark.parametrize(
    ("name", "shape", "fsdp", "spec"),
    [
        (OTHER, (64, 256), 4, P(None, "fsdp")),
        (OTHER, (256, 64), 4, P("fsdp")),
        (OTHER, (64, 64), 4, P(None, "fsdp")),
        (OTHER, (100, 66), 4, P("fsdp")),
        (OTHER, (101, 66), 4, P()),
        (OTHER, (64, 256), 1, P()),
        (OTHER, (3,), 4, P()),
        (OTHER, (), 4, P()),
        (BLOCK, (16, 8, 8), 4, P(None, None, "fsdp")),
        (BLOCK, (16, 12, 6), 4, P(None, "fsdp")),
        (BLOCK, (16, 7, 9), 4, P()),
        ("opt/0/mu/block/mlp/kernel", (16, 12, 6), 4, P(None, "fsdp")),
    ],
)
def test_the_largest_divisible_axis_is_split_but_never_the_layers(name, shape, fsdp, spec, monkeypatch):
    monkeypatch.setattr(sharding, "REPLICATED_BELOW", 0)
    assert sharding.parameter_spec(name, shape, 4, fsdp) == spec


def test_small_tensors_are_replicated():
    assert sharding.parameter_spec(OTHER, (512, 511), 4, 2) == P()
    assert sharding.parameter_spec(OTHER, (512, 512), 4, 2) == P(None, "fsdp")
    assert sharding.parameter_spec(OTHER, (512, 512), 2, 2) == P()


@pytest.mark.parametrize(("data", "fsdp"), [(3, 1), (-1, 2), (1, 8), (2, 1)])
def test_a_mesh_that_does_not_fit_is_refused_in_one_line(data, fsdp):
    with pytest.raises(sharding.MeshError) as info:
        sharding.make_mesh(MeshConfig(data=data, fsdp=fsdp))
    assert f"mesh.fsdp={fsdp} does not fit 1 devices" in str(info.value) and "\n" not in str(info.value)


def test_one_device():
    mesh = sharding.make_mesh(MeshConfig())
    batch = sharding.shard_batch({"x": np.arange(6.0).reshape(3, 2)}, mesh)
    assert batch["x"].shape == (3, 2)
    state = {"block": {"kernel": jax.ShapeDtypeStruct((2, 1024, 512), jnp.float32)}}
    assert sharding.with_shardings(state, mesh)["block"]["kernel"].sharding.spec == P()


def test_eight_devices(tmp_path):
    """Meshes, where the clips of a batch are, and a state that goes from eight devices to four and to one.

    `test_loop` trains on four devices.
    """
    program = """
        import sys, tempfile
        import jax, numpy as np
        from jax.sharding import AxisType, PartitionSpec as P
        from rad_jax.training import sharding
        from rad_jax.config import CheckpointConfig, MeshConfig
        from rad_jax.runs.checkpoints import Checkpoints

        assert jax.device_count() == 8
        for data, fsdp, shape in ((-1, 1, (8, 1)), (-1, 4, (2, 4)), (2, 4, (2, 4)), (1, 8, (1, 8))):
            mesh = sharding.make_mesh(MeshConfig(data=data, fsdp=fsdp))
            assert tuple(mesh.shape.values()) == shape and set(mesh.axis_types) == {AxisType.Auto}, mesh
        mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=4))
        local = {"x": np.arange(16 * 3, dtype=np.float32).reshape(16, 3), "y": np.arange(16.0, dtype=np.float32)}
        batch = sharding.shard_batch(local, mesh)
        assert batch["x"].sharding.spec == P(("data", "fsdp"))
        assert [s.data.shape for s in batch["x"].addressable_shards] == [(2, 3)] * 8
        np.testing.assert_array_equal(batch["x"], local["x"])

        sharding.REPLICATED_BELOW = 0
        kernel = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
        clips = {"x": np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)}
        loss = jax.jit(lambda state, batch: (jax.numpy.tanh(batch["x"] @ state["params"]["kernel"]) ** 2).mean())
        losses = []
        with Checkpoints(sys.argv[1], CheckpointConfig(every=1, keep=1)) as checkpoints:
            for step, (data, fsdp) in enumerate(((2, 4), (1, 4), (1, 1)), 1):
                mesh = jax.make_mesh(
                    (data, fsdp), ("data", "fsdp"), (AxisType.Auto,) * 2, devices=jax.devices()[: data * fsdp]
                )
                target = sharding.with_shardings({"params": {"kernel": jax.ShapeDtypeStruct((16, 24), np.float32)}}, mesh)
                if step == 1:
                    state = jax.device_put({"params": {"kernel": kernel}}, target["params"]["kernel"].sharding)
                else:
                    state = checkpoints.restore(target)[0]
                found = state["params"]["kernel"]
                assert found.sharding == target["params"]["kernel"].sharding
                assert {s.data.shape for s in found.addressable_shards} == {(16, 24 // fsdp)}
                np.testing.assert_array_equal(found, kernel)
                losses.append(float(loss(state, sharding.shard_batch(clips, mesh))))
                checkpoints.save(step, state, {})
                checkpoints.wait()
        assert np.ptp(losses) < 1e-5 < losses[0], losses
        print("agreed")
    """
    flags = "--xla_force_host_platform_device_count=8"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(tmp_path)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "agreed\n"
