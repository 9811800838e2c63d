"""What a training step costs on each device, rollout length by rollout length, and the tables that tell it."""

import dataclasses
import math
from typing import Any

import rich.table

from weather_scnn.training.duration import spell

#: GiB of a chip, TFLOP/s of its matrix units for bfloat16 and GB/s of its memory, from the vendor's pages.
CHIPS = {"v4": (32, 275, 1200), "v5e": (16, 197, 819), "v5p": (95, 459, 2765), "v6e": (32, 918, 1640)}
_COLUMNS = (
    "rollout", "GFLOP", "state", "activations", "in all", "sent", "accessed", "shortest", "equations", "joins, reversals",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class StageCost:
    """Cost of one training step, on each device but for the operations.

    Attributes:
        rollout_steps: forecast steps.
        flops: floating-point operations on all devices together, with what the backward pass computes again.
        state_bytes: parameters, their average, optimiser state, tables, batch.
        temporary_bytes: activations and work space at their peak.
        communicated: bytes sent, by kind of collective.
        equations: of the traced step, see `hlo_cost.size_of`.
        movements: how many of them join or reverse arrays.
        bytes_accessed: that the compiled program reads from and writes to memory, see `Program.bytes_accessed`.
        seconds: of the operations of products at the devices' peak, and of the bytes at their memory's rate; no step is
            shorter than the longer of the two. None for CPUs and for devices that are neither there nor known.
    """

    rollout_steps: int
    flops: float
    state_bytes: int
    temporary_bytes: int
    communicated: dict[str, int]
    equations: int
    movements: int
    bytes_accessed: int = 0
    seconds: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """Parameters a part, and the cost of every stage.

    Attributes:
        parameters: number of trained values by part of the network.
        table_bytes: memory of the transforms' tables, all together.
        batch_size: windows a step, over all devices.
        mesh: devices along (data, ensemble, model).
        device: what the program was compiled for.
        platform: whose layout of the transforms it has: cpu, gpu or tpu.
        stages: cost of a step by rollout length, ascending.
        seconds: that all steps of the configuration take, roughly; None for devices that are not there.
        members: of the ensembles, the most of any stage.
    """

    parameters: dict[str, int]
    table_bytes: int
    batch_size: int
    mesh: tuple[int, int, int]
    device: str
    platform: str
    stages: tuple[StageCost, ...]
    seconds: float | None = None
    members: int = 1

    @property
    def ideal_bytes(self) -> int:
        """What data parallelism has to send: each gradient once in and once out, 2 · parameters · 4 bytes."""
        return 8 * sum(self.parameters.values()) if self.mesh[0] * self.mesh[1] > 1 else 0

    def render(self) -> list[rich.table.Table]:
        """Two tables for a terminal."""
        parts = rich.table.Table("part", rich.table.Column("parameters", justify="right"), title="Parameters")
        for name, count in self.parameters.items():
            parts.add_row(name, f"{count:,}")
        parts.add_row("[bold]all", f"[bold]{sum(self.parameters.values()):,}")
        devices = math.prod(self.mesh)
        share = f"batch {self.batch_size}, {self.batch_size // self.mesh[0]} each"
        share += f"; {self.members} members" if self.members > 1 else ""
        costs = rich.table.Table(
            *(rich.table.Column(name, justify="right") for name in _COLUMNS),
            title=f"A training step on {' × '.join(map(str, self.mesh))} (data × ensemble × model) devices, {share}; MiB a device",
            caption=self._caption(),
        )
        for stage in self.stages:
            held, sent = stage.state_bytes + stage.temporary_bytes, sum(stage.communicated.values())
            sizes = (stage.state_bytes, stage.temporary_bytes, held, sent, stage.bytes_accessed)
            costs.add_row(
                str(stage.rollout_steps),
                f"{stage.flops / devices / 1e9:,.2f}",
                *(f"{size / 2**20:,.1f}" for size in sizes),
                _shortest(stage.seconds),
                f"{stage.equations:,}",
                f"{stage.movements:,}",
            )
        return [parts, costs]

    def _caption(self) -> str:
        text = f"Compiled for {self.device}, in the layout for {self.platform.upper()}s. Transform tables: {self.table_bytes / 2**20:,.1f} MiB on all devices."
        if self.ideal_bytes:
            text += f" Gradients alone would send {self.ideal_bytes / 2**20:,.1f} MiB."
        kind = self.device.split(":")[0]
        if kind in CHIPS:
            memory, peak, _ = CHIPS[kind]
            largest = max(stage.state_bytes + stage.temporary_bytes for stage in self.stages)
            verdict = "fits" if largest < memory * 2**30 else "does NOT fit"
            text += f" A chip has {memory} GiB: it {verdict}. Its peak is {peak} TFLOP/s in bfloat16."
        if self.seconds is not None:
            text += f" All steps take {spell(self.seconds)}, within a factor of two; train says it better in its first minute."
        return text

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Plan":
        """Inverse of `dataclasses.asdict`."""
        stages = tuple(
            StageCost(**{**stage, "seconds": stage["seconds"] and tuple(stage["seconds"])})
            for stage in values.pop("stages")
        )
        return cls(**{**values, "mesh": tuple(values["mesh"])}, stages=stages)


def _shortest(seconds: tuple[float, float] | None) -> str:
    """The shortest possible step, and what bounds it."""
    if seconds is None:
        return ""
    return f"{max(seconds) * 1e3:,.3g} ms, {'products' if seconds[0] > seconds[1] else 'memory'}"
