"""From the host's arrays to the devices."""

from collections.abc import Iterable, Iterator

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from weather_scnn.nn import Fields
from weather_scnn.training.loader import Batch
from weather_scnn.training.sharding import DATA


def place(batch: Batch, mesh: Mesh, steps: int | None = None) -> tuple[Fields, jax.Array]:
    """Puts a host's part of a batch on its devices: one array over all hosts, divided along its first axis.

    Args:
        batch: windows.
        mesh: the devices.
        steps: forecast steps of the windows that are wanted; default all.
    """
    left_out = 0 if steps is None else batch.forcings.shape[1] - 1 - steps
    if left_out:
        batch = Batch(*(array[:, :-left_out] for array in batch))
    divided = NamedSharding(mesh, PartitionSpec(DATA))
    scalar, eastward, northward, forcings = (jax.make_array_from_process_local_data(divided, array) for array in batch)
    return Fields(scalar, eastward, northward), forcings


def placed_ahead(batches: Iterable[Batch], mesh: Mesh, steps: Iterator[int]) -> Iterator[tuple[Fields, jax.Array]]:
    """Batches on the devices, each put there before the step on the one before it begins.

    Copies to a device run beside its work, so that a step finds its batch; two batches are on the devices at a time.

    Args:
        batches: windows.
        mesh: the devices.
        steps: forecast steps that are wanted of each.
    """
    waiting = None
    for batch in batches:
        placed = place(batch, mesh, next(steps))
        if waiting is not None:
            yield waiting
        waiting = placed
    if waiting is not None:
        yield waiting
