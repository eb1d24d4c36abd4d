"""Devices as a (data, fsdp) mesh, and a rule by shape for what lives where.

The batch is split over both axes. Parameters (with their moments and averages) are split over "fsdp" along their
largest divisible axis and are the same along "data"; small ones are replicated. Time is never sharded. The mesh has
`AxisType.Auto`: the compiler chooses how intermediate values are split.
"""

import math
from functools import partial
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rad_jax.config import Config, ConfigError, MeshConfig
from rad_jax.config.messages import multiple
from rad_jax.model import names

REPLICATED_BELOW = 2**20
"""Bytes below which a tensor is replicated: gathering it would cost more than the memory it saves."""


class MeshError(ConfigError):
    """The mesh does not fit the devices."""


def make_mesh(config: MeshConfig) -> Mesh:
    """The mesh ("data", "fsdp") over all devices of all processes; raises as `mesh_shape`."""
    shape = mesh_shape(config, jax.device_count())
    return jax.make_mesh(shape, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def mesh_shape(config: MeshConfig, count: int) -> tuple[int, int]:
    """How many of `count` devices lie along "data" and "fsdp".

    `config.data = -1` takes the devices that `config.fsdp` leaves. Raises `MeshError` if the product of both is not `count`.
    """
    data = count // config.fsdp if config.data == -1 else config.data
    if data * config.fsdp != count:
        asked = "the rest" if config.data == -1 else config.data
        raise MeshError(
            f"mesh.data={asked} x mesh.fsdp={config.fsdp} does not fit {count} devices; "
            "choose mesh.fsdp among their divisors and mesh.data=-1"
        )
    return data, config.fsdp


def check_devices(config: Config, count: int) -> None:
    """Raises `ConfigError` unless a run can be laid out over so many devices."""
    mesh_shape(config.mesh, count)
    multiple("train.batch", config.train.batch, "the number of devices", count)


def parameter_spec(name: str, shape: tuple[int, ...], itemsize: int, fsdp: int) -> PartitionSpec:
    """Which axis of one tensor is split over "fsdp": the largest that `fsdp` divides (of equals, the last).

    The leading layer axis of scanned blocks is never split: every step of the scan would have to fetch its layer from
    the one device that holds it.
    """
    if fsdp == 1 or math.prod(shape) * itemsize < REPLICATED_BELOW:
        return PartitionSpec()
    first = 1 if names.is_stacked(name) else 0
    divisible = [(size, axis) for axis, size in enumerate(shape) if axis >= first and size % fsdp == 0]
    if not divisible:
        return PartitionSpec()
    axis = max(divisible)[1]
    return PartitionSpec(*[None] * axis, "fsdp")


def with_shardings(state: Any, mesh: Mesh) -> Any:
    """A tree of `jax.ShapeDtypeStruct` (parameters, moments, EMA, step), each with the sharding of its leaf."""

    def of_leaf(name: str, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        spec = parameter_spec(name, leaf.shape, leaf.dtype.itemsize, mesh.shape["fsdp"])
        return leaf.update(sharding=NamedSharding(mesh, spec))

    return names.map_named(of_leaf, state)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading (batch) axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """This process's share of a batch, as global arrays split over all devices.

    `batch` is a tree of numpy arrays whose leading axis is this process's number of clips, a multiple of its devices.
    """
    return jax.tree.map(partial(jax.make_array_from_process_local_data, batch_sharding(mesh)), batch)
