"""Spectra of many channels in the layout in which they are made and mixed: degree first, in blocks of orders.

`HarmonicTransform.analysis` returns one array (…, l, m, 2, c). A network never looks at single coefficients: it mixes
channels degree by degree, transforms and comes back. For that the batch lies next to the channels, so that a product
with one matrix a degree takes all orders and samples as its rows without a copy. In the folded layout each block of orders
leaves out the degrees below its first order: 5/8 of the full array at 128 degrees, and no zeros in between to fill. In
the dense layout all orders are one block, so that a layer is one product (`weather_scnn.sphere.layouts`).
"""

import dataclasses
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.sphere import tables
from weather_scnn.sphere.latitudes import by_degree, by_order, divided, joined
from weather_scnn.sphere.layouts import DENSE, FOLDED
from weather_scnn.sphere.pairs import Parts

#: Of one kind of fields: list[Parts], by order, block by block, or in the dense layout one array (l, m, 2, b, c).
Coefficients: TypeAlias = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Spectra of real fields; `jax.tree.map` applies a function to its blocks.

    Attributes:
        blocks: one array (k, n, 2, b, C) a block of orders (`tables.blocks`), begin the first of them: degrees begin + k,
            orders begin + n, real and imaginary part, sample, channel. Numbers of degrees and orders are even; what lies
            beyond the largest degree or order, or at l < m, is zero.
        max_degree: largest degree.
        max_order: largest order.
        divided: whether orders are divided over devices, so that no axis may be merged with theirs.
        layout: folded, or dense: one block of all orders and degrees, of whatever number.
    """

    blocks: tuple[Float[Array, "_k _n 2 b C"], ...]
    max_degree: int = dataclasses.field(metadata={"static": True})
    max_order: int = dataclasses.field(metadata={"static": True})
    divided: bool = dataclasses.field(default=False, metadata={"static": True})
    layout: str = dataclasses.field(default=FOLDED, metadata={"static": True})

    @classmethod
    def of(cls, array: Float[Array, "b l m 2 C"], layout: str = FOLDED) -> "Spectrum":
        """From the layout of `HarmonicTransform.analysis`."""
        degrees, orders = array.shape[1:3]
        if layout == DENSE:
            orders = min(degrees, orders)
            block = jnp.moveaxis(array, 0, 3)[:, :orders]
            return cls((block,), degrees - 1, orders - 1, layout=DENSE)
        return cls(tuple(divided(jnp.moveaxis(array, 0, 3))), degrees - 1, min(degrees, orders) - 1)

    @property
    def array(self) -> Float[Array, "b l m 2 C"]:
        """In the layout of `HarmonicTransform.analysis`."""
        if self.layout == DENSE:
            return jnp.moveaxis(self.blocks[0], 3, 0)
        return jnp.moveaxis(joined(self.blocks, self.max_degree + 1, self.max_order + 1), 3, 0)

    @classmethod
    def of_parts(
        cls, parts: list[Coefficients], max_degree: int, max_order: int, *, divided: bool = False
    ) -> "Spectrum":
        """From coefficients of several kinds, which stand side by side as channels."""
        if isinstance(parts[0], jax.Array):
            block = parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)
            return cls((block,), max_degree, max_order, layout=DENSE)
        blocks = []
        for kinds in zip(*parts, strict=True):
            both = [
                kinds[0][r] if len(kinds) == 1 else jnp.concatenate([kind[r] for kind in kinds], -1) for r in (0, 1)
            ]
            blocks.append(by_degree(jnp.stack(both, 4)))
        return cls(tuple(blocks), max_degree, max_order, divided)

    def parts(self, widths: list[int]) -> list[Coefficients]:
        """The inverse of `of_parts`, for these numbers of channels."""
        if self.layout == DENSE:
            return list(jax.lax.split(self.blocks[0], widths, 4))
        found: list[list[Parts]] = [[] for _ in widths]
        for block in self.blocks:
            real, imaginary = (jnp.squeeze(part, 4) for part in jnp.split(by_order(block), 2, 4))
            for into, *both in zip(found, *(jax.lax.split(part, widths, part.ndim - 1) for part in (real, imaginary))):
                into.append((both[0], both[1]))
        return found

    @property
    def dtype(self) -> jnp.dtype:
        """Of the coefficients."""
        return self.blocks[0].dtype

    @property
    def first_degrees(self) -> list[int]:
        """Lowest degree, and order, of every block."""
        return [0] if self.layout == DENSE else [begin for begin, _ in tables.blocks(self.max_order)]

    def in_layout(self, layout: str) -> "Spectrum":
        """In the layout of a transform."""
        return self if layout == self.layout else Spectrum.of(self.array, layout)

    def astype(self, dtype: jnp.dtype) -> "Spectrum":
        """In another precision."""
        return jax.tree.map(lambda block: block.astype(dtype), self)

    def __add__(self, other: "Spectrum") -> "Spectrum":
        return jax.tree.map(jnp.add, self, other.in_layout(self.layout))

    def scaled(self, factors: Float[Array, "*_b C"], offsets: Float[Array, "*_b C"] | None = None) -> "Spectrum":
        """Every channel, or that of every sample, times its factor; an offset is added to the coefficient of l = m = 0."""
        first, *others = (block * factors for block in self.blocks)
        if offsets is not None:
            # A product with a mask is a part of the same loop; an update in place was a copy of the block.
            mask = np.zeros((*first.shape[:2], 2, 1, 1), first.dtype)
            mask[0, 0, 0] = 1.0
            first = first + mask * offsets
        return dataclasses.replace(self, blocks=(first, *others))

    def resampled(self, max_degree: int, max_order: int | None = None) -> "Spectrum":
        """Spectral pooling (degrees and orders left out) or upsampling (zeros for the new ones)."""
        max_order = max_degree if max_order is None else min(max_order, max_degree)
        if (max_degree, max_order) == (self.max_degree, self.max_order):
            return self
        if self.layout == DENSE:
            values = self.blocks[0][: max_degree + 1, : max_order + 1]
            missing = [(0, wanted - size) for wanted, size in zip((max_degree + 1, max_order + 1), values.shape)]
            if any(after for _, after in missing):
                values = jnp.pad(values, missing + [(0, 0)] * 3)
            return dataclasses.replace(self, blocks=(values,), max_degree=max_degree, max_order=max_order)
        _, _, *rest = self.blocks[0].shape
        blocks = []
        for number, (begin, end) in enumerate(tables.blocks(max_order)):
            degrees, orders = max_degree + 1 - begin, end - begin
            shape = degrees + degrees % 2, orders + orders % 2
            if number < len(self.blocks):
                values = self.blocks[number][:degrees, :orders]
                missing = [(0, wanted - size) for wanted, size in zip(shape, values.shape)]
                blocks.append(jnp.pad(values, missing + [(0, 0)] * 3))
            else:
                blocks.append(jnp.zeros((*shape, *rest), self.dtype))
        return Spectrum(tuple(blocks), max_degree, max_order, self.divided)

    def energy(self) -> Float[Array, "b C"]:
        """Integral of the squared field over the unit sphere, by Parseval, per sample and channel; in float32 at least."""
        total: jax.Array | float = 0.0
        for begin, block in zip(self.first_degrees, self.blocks):
            orders = begin + np.arange(block.shape[1])
            values = block.astype(jnp.promote_types(block.dtype, jnp.float32))
            weights = np.where(orders == 0, 1.0, 2.0).astype(values.dtype)[:, None, None, None]
            total = total + jnp.sum(jnp.square(values) * weights, axis=(0, 1, 2))
        return jnp.asarray(total)
