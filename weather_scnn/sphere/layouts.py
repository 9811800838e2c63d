"""How tables, rows and spectra lie in memory, for each backend.

- `folded`: rows are folded about the equator and circles into quarters, and orders come in blocks without the degrees
  below each (`weather_scnn.sphere.latitudes`): an eighth of the longitudes' products and a third of the Legendre
  products, for sums, differences, reversals and joins of operands. Right where arithmetic is dear, as on CPUs.
- `dense`: one product with all waves, and one of every order with a table of all rows and degrees, zero below the order
  (`weather_scnn.sphere.dense`). No operand is folded, joined or filled with zeros. Right on GPUs and TPUs, whose matrix
  units wait for memory: two thirds of a training step moved data in the folded layout on an H200.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import jax

from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import Grid

FOLDED, DENSE = "folded", "dense"
#: The layouts there are.
LAYOUTS = (FOLDED, DENSE)

#: The work of dense products along a circle grows with the square of its points; above so many FFTs take their place.
LARGEST_CIRCLE = 512
#: Dense tables, of which there is one a direction, take 3.2 times the memory of folded ones.
LARGEST_TABLES = 512 * 2**20


@dataclasses.dataclass(frozen=True)
class _Target:
    """What transforms are made for: a platform, and whether devices share the orders of one transform."""

    platform: str | None = None
    split: bool = False


_EITHER = _Target()
_target: contextvars.ContextVar[_Target] = contextvars.ContextVar("target", default=_EITHER)


@contextlib.contextmanager
def made_for(platform: str | None = None, *, split: bool = False) -> Iterator[None]:
    """Within it, transforms are made for a platform (cpu, gpu, tpu; None is the present one).

    Args:
        platform: the platform.
        split: whether tables will be divided over devices, which they are in the folded layout only.
    """
    token = _target.set(_Target(platform or _target.get().platform, split))
    try:
        yield
    finally:
        _target.reset(token)


def current_platform() -> str:
    """The platform that arrays are made on: that of JAX's default device, which jobs on data set to the CPU."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if device is not None:
        return device if isinstance(device, str) else device.platform
    return jax.default_backend()


def chosen_layout(grid: Grid, dense_table_bytes: int, *, split: bool = False) -> str:
    """The layout of a transform, by what its backend is good at.

    Args:
        grid: the grid.
        dense_table_bytes: memory of the synthesis tables in the dense layout.
        split: whether the tables are divided over devices: the folded layout says which rows and orders they exchange.
    """
    target = _target.get()
    if split or target.split or (target.platform or current_platform()) == "cpu":
        return FOLDED
    if grid.longitudes > LARGEST_CIRCLE or dense_table_bytes > LARGEST_TABLES:
        return FOLDED
    return DENSE


def check_layout(layout: str, *, split: bool, one_table: bool | None) -> None:
    """Raises a UserError for a layout that there is not, or that cannot do what is asked for."""
    if layout not in LAYOUTS:
        raise UserError(f"the layout {layout!r}", remedy=f"choose {' or '.join(LAYOUTS)}, or leave it out")
    if layout == DENSE and (split or one_table):
        asked = "orders divided over a mesh" if split else "one table for both directions"
        raise UserError(f"the dense layout has no {asked}", remedy=f"set layout={FOLDED!r}")
