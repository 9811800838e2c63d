"""Where arrays live: a mesh of devices with the axes `data`, over which the batch is divided, `ensemble` and `model`.

Devices along `ensemble` share the members of an ensemble: each holds the same windows, and members of its own.

Devices along `model` share samples. Each holds a part of the orders m of the transforms' tables and of the spectra, of
the channels of fields on the grid, and of the parameters with their optimiser state; the compiler adds the
communication. One process may drive all devices, or each host of a slice its own: sizes of the configuration are those
of the whole.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from weather_scnn.errors import UserError
from weather_scnn.sphere import HarmonicTransform, SpinTransform
from weather_scnn.sphere.layouts import check_layout
from weather_scnn.training.configuration import TrainingConfig

DATA, ENSEMBLE, MODEL = "data", "ensemble", "model"
_TRANSFORMS = (HarmonicTransform, SpinTransform)


def mesh_shape(training: TrainingConfig, count: int) -> tuple[int, int, int]:
    """(data, ensemble, model) for so many devices.

    Args:
        training: `mesh.model` and `mesh.ensemble`, and the batch that the axis `data` has to divide.
        count: how many devices.

    Raises:
        UserError: the devices do not divide by `mesh.model` and `mesh.ensemble`, or the batch by the rest.
    """
    data = count
    for name in ("model", "ensemble"):
        wanted = getattr(training.mesh, name)
        if data % wanted:
            fitting = ", ".join(str(size) for size in range(1, data + 1) if data % size == 0)
            raise UserError(
                f"training.mesh.{name} is {wanted}, which does not divide {data} devices",
                remedy=f"set it to one of {fitting}",
            )
        data //= wanted
    parts = data * training.accumulation
    if training.batch_size % parts:
        below, above = training.batch_size // parts * parts, -(-training.batch_size // parts) * parts
        also = f" times training.accumulation {training.accumulation}" if training.accumulation > 1 else ""
        raise UserError(
            f"a batch of {training.batch_size} does not divide over {data} devices along the axis data{also}",
            remedy=f"set training.batch_size to {f'{below} or ' if below else ''}{above}, or training.mesh.model so "
            "that fewer devices divide the batch",
        )
    return data, training.mesh.ensemble, training.mesh.model


def device_mesh(training: TrainingConfig, devices: list[Any] | None = None) -> Mesh:
    """Devices as (data, ensemble, model), neighbours along `ensemble` and `model` on one host where they fit.

    Args:
        training: see `mesh_shape`.
        devices: default all of all processes.

    Raises:
        UserError: see `mesh_shape`.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    data, *together = mesh_shape(training, count)
    each = together[0] * together[1]
    hosts = len({device.process_index for device in devices})
    if hosts > 1 and count // hosts % each == 0:
        shape = (count // hosts // each, *together)
        laid = mesh_utils.create_hybrid_device_mesh(shape, (hosts, 1, 1), devices, process_is_granule=True)
    elif hosts > 1:
        # Whole hosts share samples, so that each reads a part of the batch that lies together.
        laid = np.array(sorted(devices, key=lambda device: (device.process_index, device.id))).reshape(data, *together)
    else:
        laid = mesh_utils.create_device_mesh((data, *together), devices, allow_split_physical_axes=True)
    return Mesh(laid, (DATA, ENSEMBLE, MODEL))


def host_share(mesh: Mesh) -> tuple[int, int]:
    """(part, parts) of a batch's contiguous parts that this process reads: those rows that its devices hold.

    Hosts that hold the same samples, split along `model` or `ensemble`, read the same part.

    Raises:
        UserError: the process's devices do not lie together along the axis `data`.
    """
    own = jax.process_index()
    rows = [index for index, row in enumerate(mesh.devices) if any(device.process_index == own for device in row.flat)]
    first, count, data = rows[0], len(rows), mesh.shape[DATA]
    if rows != list(range(first, first + count)) or data % count or first % count:
        raise UserError(
            f"process {own} holds rows {rows} of {data} of the device mesh, which are no even part of the batch",
            remedy="set training.mesh.model times training.mesh.ensemble to a divisor or a multiple of the devices of a host",
        )
    return first // count, data // count


def parameter_sharding(array: Any, mesh: Mesh) -> NamedSharding:
    """Matrices are split along their last axis, the channels that come out, where it divides; the rest is on all."""
    model = mesh.shape[MODEL]
    if model > 1 and len(array.shape) > 1 and array.shape[-1] % model == 0:
        return NamedSharding(mesh, PartitionSpec(*[None] * (len(array.shape) - 1), MODEL))
    return NamedSharding(mesh, PartitionSpec())


def shardings(tree: Any, mesh: Mesh) -> Any:
    """A tree of `parameter_sharding`, for parameters and what the optimiser keeps of them."""
    return jax.tree.map(lambda array: parameter_sharding(array, mesh), tree)


def put(tree: Any, mesh: Mesh) -> Any:
    """Copies a training state, equal on all processes, to the devices of the mesh."""
    return jax.device_put(jax.tree.map(np.asarray, tree), shardings(tree, mesh))


def put_constants(tree: Any, mesh: Mesh, *, abstract: bool = False) -> Any:
    """Copies tables and scales to the devices of the mesh: transform tables in parts along `model`, the rest whole.

    Args:
        tree: holds arrays and transforms.
        mesh: from `device_mesh`.
        abstract: give shapes with shardings in place of arrays.

    Raises:
        UserError: tables of the dense layout would be split (`layouts.made_for` says beforehand that they will be).
    """

    def place(array: Any, spec: PartitionSpec, padding: int = 0) -> Any:
        sharding = NamedSharding(mesh, spec)
        shape = (array.shape[0] + padding, *array.shape[1:]) if padding else tuple(array.shape)
        if abstract:
            return jax.ShapeDtypeStruct(shape, array.dtype, sharding=sharding)
        values = np.asarray(array)
        if padding:
            values = np.pad(values, [(0, padding)] + [(0, 0)] * (values.ndim - 1))
        return jax.device_put(values, sharding)

    def whole(array: Any) -> Any:
        return place(array, PartitionSpec())

    def constant(entry: Any) -> Any:
        if not isinstance(entry, _TRANSFORMS):
            return whole(entry)
        if mesh.shape[MODEL] == 1:  # each device works on samples of its own, see `step.over_samples`
            return jax.tree.map(whole, entry)
        check_layout(entry.layout, split=True, one_table=None)
        split: dict[str, Any] = {}
        for field in dataclasses.fields(entry):
            if field.metadata.get("static"):
                continue
            value = getattr(entry, field.name)
            if field.name.endswith("weights"):
                split[field.name] = jax.tree.map(whole, value)
            else:  # tables, their first axis that of the orders
                split[field.name] = jax.tree.map(
                    lambda table: place(table, PartitionSpec(MODEL), -table.shape[0] % mesh.shape[MODEL]), value
                )
        return dataclasses.replace(entry, mesh=mesh, mesh_axis=MODEL, **split)

    return jax.tree.map(constant, tree, is_leaf=lambda entry: isinstance(entry, _TRANSFORMS))


def divided(tree: Any, mesh: Mesh | None) -> Any:
    """Inside a compiled function: the first axis, that of the batch, is divided along `data`."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(DATA)))
