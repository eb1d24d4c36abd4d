"""What a training step would need, without running it: parameters, memory per device, floating-point operations.

Nothing of the model's size is allocated: shapes alone are traced and compiled. Memory is XLA's own analysis of the compiled
step for the devices at hand. On a CPU that is an upper estimate for an accelerator: the CPU has no bfloat16 matrix products
and keeps float32 copies of their operands.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from clu.parameter_overview import count_parameters

from rad_jax.config import Config, override
from rad_jax.config.messages import multiple
from rad_jax.model import RAD
from rad_jax.model.mixers import check_kind
from rad_jax.model.names import is_memory, named_leaves
from rad_jax.rollout.costs import frame_flops, matrix_flops, state_bytes
from rad_jax.runs.training_run import open_training_run
from rad_jax.training import sharding
from rad_jax.training.step import abstract_state, compile_step

GIB = 2**30


class StepEstimate(NamedTuple):
    """What a step needs: sizes in bytes on one device, and the matrix products over all devices, with what is recomputed.

    ``stream`` and ``frame`` are about generation: bytes of the memory of a video, and matrix products of a frame.
    """

    base: int
    branch: int
    devices: str
    state: int
    batch: int
    temporary: int
    peak: int
    flops: int
    stream: int
    frame: int

    def __str__(self) -> str:
        rows = [
            ("parameters of the base", f"{self.base / 1e6:.1f} M"),
            ("parameters of the memory", f"{self.branch / 1e6:.1f} M"),
            ("devices", self.devices),
            ("train state per device", f"{self.state / GIB:.2f} GiB"),
            ("batch per device", f"{self.batch / GIB:.2f} GiB"),
            ("temporary memory per device", f"{self.temporary / GIB:.2f} GiB"),
            ("peak per device", f"{self.peak / GIB:.2f} GiB"),
            ("matrix products of a step", f"{self.flops / 1e12:.3g} TFLOP"),
            ("memory of a generated video", f"{self.stream / 2**20:.3g} MiB"),
            ("matrix products of its frame", f"{self.frame / 1e9:.3g} GFLOP"),
        ]
        return "\n".join(f"{name:<28} {value}" for name, value in rows)


def estimate_step(config: Config) -> StepEstimate:
    """Compiles the training step of a configuration for shapes alone.

    The clips are taken as latents; a run whose data are images encodes them on top. Sizes that the experiment leaves open
    are taken from the data, which are never made. On a CPU a mesh of any size is simulated, if no computation has begun.

    Raises:
      DataError: sizes are left open and there are no data. MeshError: the mesh does not fit the devices.
    """
    if config.mesh.data > 0:
        jax.config.update("jax_num_cpu_devices", config.mesh.data * config.mesh.fsdp)
    check_kind(config.model)
    mesh = sharding.make_mesh(config.mesh)
    multiple("train.batch", config.train.batch, "the number of devices", mesh.size)
    if config.model.latent is None or config.model.action_dim is None:
        config = open_training_run(override(config, {"data.auto_make": False})).config
    model = RAD(config.model)
    state = abstract_state(model, config, mesh)
    clips = config.train.batch, config.data.clip
    batch = {
        "latents": jax.ShapeDtypeStruct((*clips, *config.model.latent), jnp.float16),
        "actions": jax.ShapeDtypeStruct((*clips, config.model.action_dim), jnp.float32),
    }
    traced = compile_step(model, config, mesh).trace(None, state, batch)
    memory = traced.lower().compile().memory_analysis()
    given = memory.argument_size_in_bytes
    branch = sum(leaf.size for name, leaf in named_leaves(state.params).items() if is_memory(name))
    leaves = jax.tree.leaves(state)
    held = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)
    return StepEstimate(
        base=count_parameters(state.params) - branch,
        branch=branch,
        devices=f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
        state=held,
        batch=given - held,
        temporary=memory.temp_size_in_bytes,
        peak=given + memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes,
        flops=matrix_flops(traced.jaxpr),
        stream=state_bytes(config.model),
        frame=frame_flops(config.model, config.diffusion, config.sample.steps),
    )
