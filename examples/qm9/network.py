"""The network: residual blocks on the sphere around each atom, invariants of them, and a set of atoms as a molecule."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from examples.qm9.batches import Batch
from examples.qm9.spheres import sphere_fields, sphere_spectra
from examples.qm9.targets import ELEMENTS
from weather_scnn.nn import (
    BlockOptions,
    MatrixHarmonics,
    ResidualBlock,
    Width,
    first_degree_vectors,
    product_grid,
    rotation_invariants,
    run_blocks,
)
from weather_scnn.nn.features import Table
from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.sphere.layouts import DENSE
from weather_scnn.sphere.products import EXACT, product_precision
from weather_scnn.sphere.spectrum import Spectrum

#: The paper's grid, for inputs that are sampled.
SAMPLED = Grid.equiangular(32, 32)
_FLOOR = 1e-4  # of squares, so that roots have a gradient


@dataclasses.dataclass(frozen=True)
class Level:
    """A residual block.

    Attributes:
        max_degree: of its spectra; its grid is the one on which products of them are exact.
        scalars: channels of spin 0.
        vectors: channels of spin 1.
    """

    max_degree: int
    scalars: int
    vectors: int


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """A network.

    Attributes:
        levels: its residual blocks, in order.
        powers: of the distance in the inputs.
        angle: at which a neighbour's mark on the sphere falls to 5 %, degrees.
        sampled: inputs are sampled on 32x32 and analysed, as in the paper, in place of their spectra in closed form.
        nonlinearity: of the blocks: product, or the paper's phase_collapse, which commutes with rotations roughly only.
        embedding: numbers that stand for an element; they scale and shift the channels of each block.
        hidden: width of the layers on the invariants of an atom, and of a molecule.
    """

    levels: tuple[Level, ...]
    powers: tuple[float, ...] = (2.0, 6.0)
    angle: float = 60.0
    sampled: bool = False
    nonlinearity: str = "product"
    embedding: int = 16
    hidden: int = 128


#: The paper's blocks are on 32x32, 32x32, 16x16, 16x16, 8x8, 8x8: degrees up to 10, 5 and 2 have exact products there.
PRESETS = {
    "laptop": NetworkConfig((Level(5, 16, 8),), powers=(1.0, 2.0, 4.0, 6.0), angle=45.0),
    "paper_small": NetworkConfig(
        tuple(
            Level(degree, width, width) for degree, width in ((10, 32), (10, 32), (5, 64), (5, 64), (2, 128), (2, 128))
        )
    ),
    "paper_large": NetworkConfig(
        tuple(
            Level(degree, width, width)
            for degree, width in ((10, 64), (10, 64), (5, 128), (5, 128), (2, 256), (2, 256))
        ),
        hidden=256,
    ),
}


def input_spectra(batch: Batch, config: NetworkConfig) -> Float[Array, "a l m 2 c"]:
    """The spectra of what every atom sees, up to the degree of the first level."""
    degree = config.levels[0].max_degree
    options: dict[str, Any] = {"powers": config.powers, "angle": config.angle}
    if not config.sampled:
        return sphere_spectra(batch, degree, **options)
    transform = HarmonicTransform.create(SAMPLED, degree, vectors=False)
    return transform.analysis(sphere_fields(batch, SAMPLED, **options))


class Network(nnx.Module):
    """What is learned of each molecule, a function of its atoms' elements and distances alone.

    Inputs around an atom → blocks, modulated by its element → invariants → layers shared by all atoms → a sum over the
    atoms: of energies for extensive properties; of charges times places and of the first-degree parts for the dipole; of
    charges times squared distances from the centre for the spatial extent; of features, with layers behind, for the rest
    (deep sets, Zaheer et al. 2017). Rotations, reflections and shifts of a molecule and the order of its atoms change
    nothing.

    Args:
        config: sizes.
        kind: see `Target`.
        scales: root mean square of each channel of the inputs, which they are divided by.
        rngs: source of the initial values.
    """

    def __init__(self, config: NetworkConfig, kind: str, scales: Float[np.ndarray, " c"], *, rngs: nnx.Rngs):
        self.config, self.kind = config, kind
        self.input = Width(len(ELEMENTS) * len(config.powers), 0)
        exactly: dict[str, Any] = {"precision": product_precision("high", jnp.float32), "rngs": rngs}
        self.embedding = nnx.Embed(len(ELEMENTS) + 1, config.embedding, rngs=rngs)
        # A channel that never occurs, such as fluorine's of a few molecules, stays as it is: zero.
        self.input_factors = Table(jnp.asarray(1.0 / np.where(scales > 0, scales, 1.0), jnp.float32))
        options = BlockOptions(
            nonlinearity=config.nonlinearity, mirror_symmetric=True, noise=config.embedding, branch_scale=0.5
        )
        degrees = {level.max_degree for level in config.levels}
        harmonics = {degree: MatrixHarmonics(product_grid(degree), degree) for degree in degrees}
        widths = [Width(level.scalars, level.vectors) for level in config.levels]
        self.blocks = nnx.List(
            [
                ResidualBlock(before, width, harmonics[level.max_degree], options, rngs=rngs)
                for before, width, level in zip([self.input, *widths], widths, config.levels)
            ]
        )
        self.width = widths[-1]
        last, hidden = config.levels[-1].max_degree, config.hidden
        found = self.width.scalars + (last + 1) * self.width.channels
        self.first = nnx.Linear(found + config.embedding, hidden, **exactly)
        self.second = nnx.Linear(hidden, hidden, **exactly)
        small = nnx.initializers.normal(0.1 / hidden**0.5)
        vectors = self.width.scalars if kind == "dipole" else 0
        self.of_atom = nnx.Linear(hidden, hidden if kind == "intensive" else 2 + vectors, kernel_init=small, **exactly)
        if kind == "intensive":
            self.of_molecule = nnx.Linear(2 * hidden, hidden, **exactly)
            self.last = nnx.Linear(hidden, 1, kernel_init=small, **exactly)

    def __call__(self, batch: Batch, *, training: bool) -> Float[Array, " n"]:
        """The learned number of every molecule; of empty places, some finite one."""
        mask = batch.atoms
        spectrum = Spectrum.of(input_spectra(batch, self.config), DENSE).scaled(self.input_factors.get_value())
        kinds = jnp.asarray(batch.numbers)[:, None] == jnp.array(ELEMENTS)
        element = self.embedding(jnp.where(kinds.any(-1), kinds.argmax(-1), len(ELEMENTS)))
        spectrum = run_blocks(list(self.blocks), spectrum, training=training, mask=mask, noise=element)
        found = rotation_invariants(spectrum, self.width)
        means, powers = found[:, : self.width.scalars], found[:, self.width.scalars :]
        features = jnp.concatenate([means, jnp.sqrt(powers + _FLOOR), element], axis=-1)
        hidden = jax.nn.silu(self.second(jax.nn.silu(self.first(features))))
        return self._molecules(batch, hidden, spectrum)

    def _molecules(self, batch: Batch, hidden: Float[Array, "a h"], spectrum: Spectrum) -> Float[Array, " n"]:
        """From atoms to molecules."""
        mask = batch.atoms[:, None]
        given = self.of_atom(hidden) * mask
        if self.kind == "sum":
            return batch.total(given[:, 0])
        if self.kind == "intensive":
            features = jax.nn.silu(given) * mask
            pooled = jnp.concatenate([batch.mean(features), batch.total(features) / 16.0], axis=-1)
            return self.last(jax.nn.silu(self.of_molecule(pooled)))[:, 0]
        # Places from the centre of the nuclear charges.
        charges, positions = jnp.asarray(batch.numbers)[:, None] * mask, jnp.asarray(batch.positions)
        centre = batch.total(charges * positions) / jnp.maximum(batch.total(charges), 1.0)
        places = (positions - jnp.concatenate([centre, jnp.zeros((1, 3))])[batch.molecule]) * mask
        if self.kind == "spread":
            squares = jnp.square(places).sum(-1)
            return batch.total(0.1 * given[:, 0] * squares + given[:, 1])
        # The sum of the charges is zero in every molecule, or the dipole would depend on the centre.
        excess = jnp.concatenate([batch.mean(given[:, 0]), jnp.zeros(1)])[batch.molecule]
        own = jnp.einsum(
            "adc,ac->ad", first_degree_vectors(spectrum, self.width.scalars), given[:, 2:], precision=EXACT
        )
        dipole = batch.total((given[:, :1] - excess[:, None]) * places + own * mask)
        return jnp.sqrt(jnp.square(dipole).sum(-1) + _FLOOR**2)
