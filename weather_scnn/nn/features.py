"""What flows through the network: real spin-0 fields and spin-1 fields, on the grid or as spectra.

On the grid the two kinds are kept apart (`Fields`). As spectra they are one real array whose channels are the scalar
spectra, then the divergent (E), then the rotational (B) spectra of the spin-1 fields, so that a convolution is one
product with one real matrix per degree.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.sphere import HarmonicTransform


class Width(NamedTuple):
    """Numbers of spin-0 and spin-1 channels."""

    scalars: int
    vectors: int

    @property
    def spectra(self) -> int:
        """Channels of the spectrum: a spin-1 field is two real spectra, E and B."""
        return self.scalars + 2 * self.vectors


class Fields(NamedTuple):
    """Real fields on a grid.

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


class Table(nnx.Variable):
    """Constants that depend on the grid alone: passed to compiled functions as arguments, never trained or saved."""


class Harmonics(nnx.Module):
    """A harmonic transform shared by the layers that work on one grid at one truncation.

    Args:
        transform: transform of that grid; its tables travel as arguments of compiled functions.
    """

    def __init__(self, transform: HarmonicTransform):
        self.transform = Table(transform)

    @property
    def max_degree(self) -> int:
        """Largest degree of the spectra."""
        return self.transform.get_value().max_degree

    def analysis(self, fields: Fields) -> Float[Array, "*b l m 2 C"]:
        """Grid to spectra, channels scalar, E, B."""
        transform = self.transform.get_value()
        parts = []
        if fields.scalar.shape[-1]:
            parts.append(transform.analysis(fields.scalar))
        if fields.eastward.shape[-1]:
            parts.extend(transform.analysis_vector(fields.eastward, fields.northward))
        return jnp.concatenate(parts, axis=-1)

    def synthesis(self, spectrum: Float[Array, "*b l m 2 C"], width: Width) -> Fields:
        """Spectra to grid; `width` says how the channels divide."""
        transform = self.transform.get_value()
        grid = transform.grid
        empty = jnp.zeros((*spectrum.shape[:-4], *grid.shape, 0), spectrum.dtype)
        scalar, eastward, northward = empty, empty, empty
        if width.scalars:
            scalar = transform.synthesis(spectrum[..., : width.scalars])
        if width.vectors:
            split = width.scalars + width.vectors
            eastward, northward = transform.synthesis_vector(
                spectrum[..., width.scalars : split], spectrum[..., split:]
            )
        return Fields(scalar, eastward, northward)


def order_weights(orders: int) -> Float[Array, " m"]:
    """1 for m = 0 and 2 for m > 0: the weights with which a real field's m ≥ 0 coefficients sum to its energy."""
    return jnp.where(jnp.arange(orders) == 0, 1.0, 2.0)


def spectral_energy(spectrum: Float[Array, "*b l m 2 C"]) -> Float[Array, "*b C"]:
    """Integral of the squared field over the unit sphere, by Parseval, per channel."""
    return jnp.einsum("...lmrc,m->...c", jnp.square(spectrum), order_weights(spectrum.shape[-3]))


def concatenate(*fields: Fields) -> Fields:
    """Joins fields of one grid along their channels."""
    return Fields(*(jnp.concatenate(parts, axis=-1) for parts in zip(*fields)))


def map_fields(function, *fields: Fields) -> Fields:
    """Applies a function to the three arrays."""
    return jax.tree.map(function, *fields)
