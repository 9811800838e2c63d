"""Harmonic transforms of small grids, a product with one matrix each.

With a hundred points and a few degrees, as around atoms, a transform in two stages is mostly rearranging of operands. As one
matrix it does more arithmetic, and the spectra and the fields of all samples and channels are its operands as they lie.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from weather_scnn.nn.features import Features, Fields, Harmonics, Pair, Table
from weather_scnn.nn.width import Width
from weather_scnn.sphere import Grid
from weather_scnn.sphere.layouts import DENSE
from weather_scnn.sphere.products import product_precision
from weather_scnn.sphere.spectrum import Spectrum


class MatrixHarmonics(Harmonics):
    """`Harmonics` of scalars and vectors with matrices (points, coefficients), made of the ordinary transform's columns.

    Spectra are in the dense layout.

    Args:
        grid: of up to about a thousand points; matrices grow with the square of their number.
        max_degree: largest degree of the spectra.
        precision: of products, see `weather_scnn.sphere.products`.
    """

    def __init__(self, grid: Grid, max_degree: int, *, precision: str = "high"):
        whole = Harmonics.create(grid, max_degree, layout=DENSE)
        super().__init__(whole.transform.get_value())
        self.precision = precision
        self.shape = self.max_degree + 1, self.max_order + 1, 2
        count, points = self.shape[0] * self.shape[1] * 2, grid.latitudes * grid.longitudes
        units = jnp.eye(count).reshape(*self.shape, 1, count)
        nothing = jnp.zeros_like(units)

        def fields(*parts: Array, width: Width) -> Features:
            return whole.synthesis(self._spectrum(jnp.concatenate(parts, -1)), width)

        def columns(*parts: Array) -> Float[Array, "p k"]:
            return jnp.concatenate([part.reshape(points, -1) for part in parts])

        def coefficients(features: Features) -> Array:
            return whole.analysis(features).blocks[0].reshape(count, -1)

        scalar = fields(units, width=Width(count, 0)).scalar
        even, odd = (fields(*parts, width=Width(0, count)).vector for parts in ((units, nothing), (nothing, units)))
        self.scalar_synthesis = Table(columns(scalar))
        self.vector_synthesis = Table(jnp.concatenate([columns(*even), columns(*odd)], axis=1))
        grid_units = jnp.eye(points).reshape(1, *grid.shape, points)
        zeros, empty = jnp.zeros_like(grid_units), jnp.zeros((1, *grid.shape, 0))
        self.scalar_analysis = Table(coefficients(Features(grid_units, Pair(empty, empty), Pair(empty, empty))))
        both = [
            coefficients(Features(empty, pair, Pair(empty, empty)))
            for pair in (Pair(grid_units, zeros), Pair(zeros, grid_units))
        ]
        # Spectra E then B of the eastward units, then those of the northward.
        self.vector_analysis = Table(
            jnp.concatenate([jnp.concatenate(jnp.split(part, 2, axis=1)) for part in both], axis=1)
        )

    def _spectrum(self, block: Float[Array, "l m 2 b C"]) -> Spectrum:
        return Spectrum((block,), self.max_degree, self.max_order, layout=DENSE)

    def _product(self, table: Table, values: Float[Array, "k b c"]) -> Float[Array, "p b c"]:
        matrix = table.get_value()
        flat = jnp.matmul(
            matrix, values.reshape(len(values), -1), precision=product_precision(self.precision, matrix.dtype)
        )
        return flat.reshape(len(matrix), *values.shape[1:])

    def analysis(self, features: Features | Fields, *, inner: bool = False) -> Spectrum:
        """See `Harmonics.analysis`."""
        if isinstance(features, Fields):
            features = Features.of(features)

        def rows(part: Array) -> Float[Array, "p b c"]:
            part = part if inner else jnp.moveaxis(part, 0, 2)
            return part.reshape(-1, *part.shape[2:])

        found = []
        if features.scalar.shape[-1]:
            found.append(self._product(self.scalar_analysis, rows(features.scalar)))
        if features.vector.real.shape[-1]:
            both = jnp.concatenate([rows(part) for part in features.vector])
            found.extend(jnp.split(self._product(self.vector_analysis, both), 2))
        block = jnp.concatenate(found, axis=-1)
        return self._spectrum(block.reshape(*self.shape, *block.shape[1:]))

    def synthesis(self, spectrum: Spectrum, width: Width, *, inner: bool = False) -> Features:
        """See `Harmonics.synthesis`; `inner` fields are (y, x, b, c)."""
        block = spectrum.in_layout(DENSE).blocks[0]
        rows = block.reshape(-1, *block.shape[3:])
        c, d, _ = width

        def fields(values: Float[Array, "p b c"]) -> Array:
            values = values.reshape(*self.grid.shape, *values.shape[1:])
            return values if inner else jnp.moveaxis(values, 2, 0)

        scalar = fields(self._product(self.scalar_synthesis, rows[..., :c]))
        both = jnp.concatenate([rows[..., c : c + d], rows[..., c + d :]])
        vector = Pair(*map(fields, jnp.split(self._product(self.vector_synthesis, both), 2)))
        return Features(scalar, vector, Pair(scalar[..., :0], scalar[..., :0]))
