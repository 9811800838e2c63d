"""From the host's arrays to the devices."""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from weather_scnn.nn import Fields
from weather_scnn.training.loader import Batch
from weather_scnn.training.sharding import DATA


def place(batch: Batch, mesh: Mesh) -> tuple[Fields, jax.Array]:
    """Puts a host's part of a batch on its devices: one array over all hosts, divided along its first axis."""
    divided = NamedSharding(mesh, PartitionSpec(DATA))
    scalar, eastward, northward, forcings = (jax.make_array_from_process_local_data(divided, array) for array in batch)
    return Fields(scalar, eastward, northward), forcings
