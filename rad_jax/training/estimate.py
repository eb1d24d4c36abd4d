"""What a training step would need, without running it: parameters, memory per device, floating-point operations.

Nothing of the model's size is allocated: shapes alone are traced and compiled. Memory is XLA's own analysis of the compiled
step for the devices at hand. On a CPU that is an upper estimate for an accelerator: the CPU has no bfloat16 matrix products
and keeps float32 copies of their operands.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from clu.parameter_overview import count_parameters
from jax.extend.core import ClosedJaxpr, Jaxpr

from rad_jax.config import Config, override
from rad_jax.config.messages import multiple
from rad_jax.model import RAD
from rad_jax.model.names import is_memory, named_leaves
from rad_jax.runs.training_run import open_training_run
from rad_jax.training import sharding
from rad_jax.training.step import abstract_state, compile_step

GIB = 2**30


class StepEstimate(NamedTuple):
    """What a step needs: sizes in bytes on one device, and the matrix products over all devices, with what is recomputed."""

    base: int
    branch: int
    devices: str
    state: int
    batch: int
    temporary: int
    peak: int
    flops: int

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
    )


def matrix_flops(jaxpr: Jaxpr | ClosedJaxpr) -> int:
    """Floating-point operations of all matrix products of a program, those in loops as often as they run.

    A ``while`` loop of unknown length counts once; of a ``cond`` the costliest branch counts.
    """
    return sum(_equation_flops(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _equation_flops(equation: Any) -> int:
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    inner = [
        p for value in equation.params.values() for p in (value if isinstance(value, tuple) else [value])
    ]
    costs = [matrix_flops(p) for p in inner if isinstance(p, Jaxpr | ClosedJaxpr)]
    if equation.primitive.name == "cond":
        return max(costs)
    return sum(costs) * equation.params.get("length", 1)
