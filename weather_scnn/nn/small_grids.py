"""Harmonic transforms of small grids, a product with one matrix each.

With a hundred points and a few degrees, as around atoms, a transform in two stages is mostly rearranging of operands. As one
matrix it does more arithmetic, and the spectra and the fields of all samples and channels are its operands as they lie.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.nn.features import Features, Fields, Harmonics, Pair, Table
from weather_scnn.nn.width import Width
from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.sphere.layouts import DENSE
from weather_scnn.sphere.products import product_precision
from weather_scnn.sphere.spectrum import Spectrum


@functools.lru_cache(maxsize=8)
def _matrices(grid: Grid, max_degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Synthesis and analysis of scalars, then of vectors, whose rows and columns are E then B, eastward then northward."""
    whole = HarmonicTransform.create(grid, max_degree, layout=DENSE)
    count, points = int(np.prod(whole.spectrum_shape)), grid.latitudes * grid.longitudes

    @jax.jit
    def made() -> tuple[Array, ...]:
        spectra = jnp.eye(count).reshape(*whole.spectrum_shape, count)
        fields = jnp.eye(points).reshape(*grid.shape, points)
        columns = [whole.synthesis(spectra)]
        columns += [*whole.synthesis_vector(spectra, 0 * spectra), *whole.synthesis_vector(0 * spectra, spectra)]
        rows = [whole.analysis(fields)]
        rows += [*whole.analysis_vector(fields, 0 * fields), *whole.analysis_vector(0 * fields, fields)]
        return (*(part.reshape(points, count) for part in columns), *(part.reshape(count, points) for part in rows))

    scalar, *vector, scalar_back, e_east, b_east, e_north, b_north = map(np.asarray, made())
    u_e, v_e, u_b, v_b = vector
    return scalar, scalar_back, np.block([[u_e, u_b], [v_e, v_b]]), np.block([[e_east, e_north], [b_east, b_north]])


class MatrixHarmonics(Harmonics):
    """`Harmonics` of scalars and vectors with matrices (points, coefficients), made of the ordinary transform's columns.

    Spectra are in the dense layout.

    Args:
        grid: of up to about a thousand points; matrices grow with the square of their number.
        max_degree: largest degree of the spectra.
        precision: of products, see `weather_scnn.sphere.products`.
    """

    def __init__(self, grid: Grid, max_degree: int, *, precision: str = "high"):
        scalar, scalar_back, vector, vector_back = _matrices(grid, max_degree)
        super().__init__(HarmonicTransform.create(grid, max_degree, layout=DENSE))
        self.precision = precision
        self.shape = self.max_degree + 1, self.max_order + 1, 2
        self.scalar_synthesis, self.scalar_analysis = Table(jnp.asarray(scalar)), Table(jnp.asarray(scalar_back))
        self.vector_synthesis, self.vector_analysis = Table(jnp.asarray(vector)), Table(jnp.asarray(vector_back))

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
