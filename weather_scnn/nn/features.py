"""What flows through the network: real fields of spin 0, 1 and 2, on the grid or as spectra.

On the grid the kinds are kept apart: `Fields` are a weather state (scalars and winds), `Features` are hidden layers,
which may have spin 2 besides. As spectra they are one `Spectrum` whose channels are the scalar spectra, the E spectra
of spin 1 and of spin 2, then their B spectra, so that a convolution is one product with one real matrix per degree.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.nn.width import Width
from weather_scnn.sphere import Grid, HarmonicTransform, SpinTransform
from weather_scnn.sphere.layouts import DENSE
from weather_scnn.sphere.spectrum import Spectrum


class Fields(NamedTuple):
    """Real fields of a state on a grid.

    Attributes:
        scalar: spin-0 fields, (…, y, x, c).
        eastward: eastward components of spin-1 fields, (…, y, x, d).
        northward: northward components of the same, (…, y, x, d).
    """

    scalar: Float[Array, "*b y x c"]
    eastward: Float[Array, "*b y x d"]
    northward: Float[Array, "*b y x d"]

    @property
    def width(self) -> Width:
        """Channel counts."""
        return Width(self.scalar.shape[-1], self.eastward.shape[-1])


class Pair(NamedTuple):
    """The two components of fields of one spin s > 0: real and imaginary part with respect to east and north.

    Of spin 1 they are the eastward and the northward wind; the square of a wind, (u² − v², 2uv), has spin 2.
    """

    real: Float[Array, "*b y x d"]
    imaginary: Float[Array, "*b y x d"]


class Features(NamedTuple):
    """Real fields of a hidden layer on a grid.

    Attributes:
        scalar: spin-0 fields, (…, y, x, c).
        vector: spin-1 fields.
        tensor: spin-2 fields.
    """

    scalar: Float[Array, "*b y x c"]
    vector: Pair
    tensor: Pair

    @classmethod
    def of(cls, fields: Fields) -> "Features":
        """A state as features."""
        empty = jnp.zeros((*fields.scalar.shape[:-1], 0), fields.scalar.dtype)
        return cls(fields.scalar, Pair(fields.eastward, fields.northward), Pair(empty, empty))

    @property
    def width(self) -> Width:
        """Channel counts."""
        return Width(self.scalar.shape[-1], self.vector.real.shape[-1], self.tensor.real.shape[-1])

    @property
    def fields(self) -> Fields:
        """Without spin 2, as a state."""
        return Fields(self.scalar, *self.vector)

    def astype(self, dtype: jnp.dtype) -> "Features":
        """In another precision."""
        return jax.tree.map(lambda array: array.astype(dtype), self)


class Table(nnx.Variable):
    """Constants that depend on the grid alone: passed to compiled functions as arguments, never trained or saved."""


class Harmonics(nnx.Module):
    """The harmonic transforms shared by the layers that work on one grid at one truncation.

    Args:
        transform: of scalars and vectors on that grid; its tables travel as arguments of compiled functions.
        tensors: of spin 2 on that grid to the same degree; None without such features.
    """

    def __init__(self, transform: HarmonicTransform, tensors: SpinTransform | None = None):
        self.transform = Table(transform)
        self.tensors = Table(tensors) if tensors is not None else None

    @classmethod
    def create(
        cls,
        grid: Grid,
        max_degree: int,
        *,
        vectors: bool = True,
        tensors: bool = False,
        layout: str | None = None,
        precision: str = "highest",
        beyond: bool = False,
    ) -> "Harmonics":
        """Builds the tables of the spins that are wanted; what follows them as for `HarmonicTransform.create`."""
        transform = HarmonicTransform.create(
            grid, max_degree, vectors=vectors, layout=layout, precision=precision, beyond=beyond
        )
        second = None
        if tensors:
            second = SpinTransform.create(grid, 2, max_degree, layout=transform.layout, precision=precision)
        return cls(transform, second)

    @property
    def grid(self) -> Grid:
        """The grid."""
        return self.transform.get_value().grid

    @property
    def max_degree(self) -> int:
        """Largest degree of the spectra."""
        return self.transform.get_value().max_degree

    @property
    def max_order(self) -> int:
        """Largest order of the spectra."""
        return self.transform.get_value().max_order

    @property
    def layout(self) -> str:
        """Of the spectra that `analysis` gives, see `weather_scnn.sphere.layouts`."""
        return self.transform.get_value().layout

    def resampled(self, spectrum: Spectrum) -> Spectrum:
        """With the degrees and orders of this transform, in its layout: those of other grids may have another."""
        return spectrum.resampled(self.max_degree, self.max_order).in_layout(self.layout)

    def analysis(self, features: Features | Fields, *, inner: bool = False) -> Spectrum:
        """Grid to spectra, float32; channels scalar, E of spin 1 and 2, B of spin 1 and 2.

        Args:
            features: on the grid.
            inner: their axes are in the order that `synthesis` gives with `inner`.
        """
        if isinstance(features, Fields):
            features = Features.of(features)
        transform = self.transform.get_value()
        even, odd = [], []
        if features.scalar.shape[-1]:
            even.append(transform.scalar_parts(features.scalar, inner=inner))
        if features.vector.real.shape[-1]:
            divergent, rotational = transform.vector_parts(*features.vector, inner=inner)
            even.append(divergent)
            odd.append(rotational)
        if features.tensor.real.shape[-1]:
            assert self.tensors is not None
            divergent, rotational = self.tensors.get_value().pair_parts(*features.tensor, inner=inner)
            even.append(divergent)
            odd.append(rotational)
        divided = transform.mesh is not None
        return Spectrum.of_parts(even + odd, self.max_degree, self.max_order, divided=divided)

    def synthesis(self, spectrum: Spectrum, width: Width, *, inner: bool = False) -> Features:
        """Spectra to grid, float32.

        Args:
            spectrum: of the features.
            width: how its channels divide.
            inner: with the axes before the channels in whatever order the transform's products have them, which spares
                copies where what follows acts on every point alike.
        """
        transform = self.transform.get_value()
        c, d, e = width
        spectrum = spectrum.astype(transform.dtype).in_layout(transform.layout)
        scalar, even_vector, even_tensor, odd_vector, odd_tensor = spectrum.parts([c, d, e, d, e])
        shape = (spectrum.blocks[0].shape[3], *transform.grid.shape)
        if inner and transform.layout == DENSE:
            shape = shape[::-1]
        empty = jnp.zeros((*shape, 0), transform.dtype)
        vector = tensor = Pair(empty, empty)
        if d:
            vector = Pair(*transform.vector_fields(even_vector, odd_vector, inner=inner))
        if e:
            assert self.tensors is not None
            tensor = Pair(*self.tensors.get_value().pair_fields(even_tensor, odd_tensor, inner=inner))
        return Features(transform.scalar_field(scalar, inner=inner) if c else empty, vector, tensor)


def concatenate(*fields: Fields) -> Fields:
    """Joins fields of one grid along their channels."""
    return Fields(*(jnp.concatenate(parts, axis=-1) for parts in zip(*fields)))


def map_fields(function, *fields: Fields) -> Fields:
    """Applies a function to the three arrays."""
    return jax.tree.map(function, *fields)
