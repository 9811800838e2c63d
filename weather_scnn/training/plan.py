"""What a configuration will cost, from the compiled program, before anything is run."""

import dataclasses
from typing import Any

import jax
import numpy as np
import rich.table

from weather_scnn.data.channels import Channels
from weather_scnn.data.reading import expected_grid
from weather_scnn.errors import UserError
from weather_scnn.nn import Fields
from weather_scnn.training.checkpoints import parameter_count
from weather_scnn.training.configuration import Config
from weather_scnn.training.loss import Scales
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.rollout import build, take_apart
from weather_scnn.training.step import make_train_step


@dataclasses.dataclass(frozen=True)
class StageCost:
    """Cost of one training step on one device.

    Attributes:
        rollout_steps: forecast steps.
        flops: floating-point operations as the compiler counts them; the body of a scan is counted once by it, so
            this is multiplied by the number of forecast steps here.
        argument_bytes: parameters, optimiser state, tables and batch.
        temporary_bytes: activations and work space.
    """

    rollout_steps: int
    flops: float
    argument_bytes: int
    temporary_bytes: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """Parameters a part, and the cost of every stage.

    Attributes:
        parameters: number of trained values by part of the network.
        table_bytes: memory of the transform's tables.
        batch_per_device: windows a device.
        devices: devices the batch is divided over.
        stages: cost of every distinct rollout length.
    """

    parameters: dict[str, int]
    table_bytes: int
    batch_per_device: int
    devices: int
    stages: tuple[StageCost, ...]

    def render(self) -> list[rich.table.Table]:
        """Two tables for a terminal."""
        parts = rich.table.Table("part", "parameters", title="Parameters")
        for name, count in self.parameters.items():
            parts.add_row(name, f"{count:,}")
        parts.add_row("[bold]all", f"[bold]{sum(self.parameters.values()):,}")
        costs = rich.table.Table(
            "rollout steps",
            "GFLOP a step",
            "arguments MiB",
            "activations MiB",
            "all MiB",
            title=f"Cost a device of {self.devices}, batch {self.batch_per_device} each",
            caption=f"Transform tables {self.table_bytes / 2**20:.1f} MiB. Device: {jax.devices()[0].device_kind}.",
        )
        for stage in self.stages:
            costs.add_row(
                str(stage.rollout_steps),
                f"{stage.flops / 1e9:.2f}",
                f"{stage.argument_bytes / 2**20:.1f}",
                f"{stage.temporary_bytes / 2**20:.1f}",
                f"{(stage.argument_bytes + stage.temporary_bytes) / 2**20:.1f}",
            )
        return [parts, costs]


def plan(config: Config, *, devices: int = 1) -> Plan:
    """Compiles the training step of one device's share of the batch; needs no data.

    Args:
        config: the experiment.
        devices: devices the batch is divided over. Parameters and tables stand on each; only the average of the
            gradients, as many bytes as the parameters, passes between them.

    Raises:
        UserError: the batch does not divide over the devices.
    """
    if devices < 1 or config.training.batch_size % devices:
        raise UserError(
            f"a batch of {config.training.batch_size} does not divide over {devices} devices",
            remedy="choose --devices that divides training.batch_size",
        )
    channels, grid = Channels.from_config(config.data), expected_grid(config.data)
    parts = take_apart(build(config.model, config.data, channels, grid, config.training.seed))
    counts: dict[str, int] = {}
    for key, subtree in parts.parameters.items():
        counts[str(key)] = parameter_count(subtree)
    batch = config.training.batch_size // devices
    state = initial_state(parts, make_optimiser(config.optimiser, config.training.stages))
    step = make_train_step(parts.graph, config, vectors=len(channels.winds))
    y, x = grid.shape
    c, d = len(channels.scalars), len(channels.winds)

    def single(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, np.float32)

    scales = Scales(single(c), single(d), single(y, x, len(channels.statics) + 1), single(y), single(c + d))
    costs = []
    for rollout in sorted({stage.rollout_steps for stage in config.training.stages}):
        times = config.data.input_steps + rollout
        window = Fields(*(single(batch, times, y, x, size) for size in (c, d, d)))
        forcings = single(batch, rollout + 1, y, x, channels.forcing_count)
        compiled = step.lower(state, parts.tables, window, forcings, scales).compile()
        memory, analysis = compiled.memory_analysis(), compiled.cost_analysis() or {}
        costs.append(
            StageCost(
                rollout,
                float(analysis.get("flops", 0.0)) * rollout,
                int(memory.argument_size_in_bytes),
                int(memory.temp_size_in_bytes),
            )
        )
    tables = sum(leaf.nbytes for leaf in jax.tree.leaves(parts.tables))
    return Plan(counts, tables, batch, devices, tuple(costs))
