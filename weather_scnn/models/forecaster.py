"""The forecaster: state, static fields and forcings in, standardised increment of the next step out."""

import dataclasses
import itertools
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.errors import UserError
from weather_scnn.models.configuration import ModelConfig, Resolution
from weather_scnn.nn import (
    BlockOptions,
    Fields,
    Harmonics,
    Noise,
    NoiseSource,
    PointwiseHead,
    ResidualBlock,
    SpectralConvolution,
    Width,
    map_fields,
    run_blocks,
)
from weather_scnn.sphere import Grid


def coarsened(grid: Grid, factor: int) -> Grid:
    """The grid of the same kind with every `factor`-th row and column.

    Raises:
        UserError: the rows or columns do not divide.
    """
    intervals = grid.latitudes - int(grid.has_poles)
    if grid.longitudes % factor or intervals % factor:
        raise UserError(
            f"a grid of {grid.name} cannot be coarsened {factor} times",
            remedy="choose a coarsening in model.levels that divides longitudes and latitudes "
            "(with pole rows: latitudes − 1)",
        )
    rows = intervals // factor + int(grid.has_poles)
    return dataclasses.replace(grid, longitudes=grid.longitudes // factor, latitudes=rows)


def largest_degree(level: Resolution, grid: Grid) -> int:
    """Of the features of a level, whose grid it is."""
    return level.max_degree or min(grid.maximum_degree, grid.maximum_order)


def last_knots(config: ModelConfig, data: Grid) -> tuple[int, ...]:
    """For every level the degree beyond which its filters are constant; weights mean the same with equal ones only."""
    grid = config.grid_of_features(data)
    degrees = [largest_degree(level, coarsened(grid, level.coarsening)) for level in config.pyramid]
    return tuple(min(config.filter_degree or degree, degree) for degree in degrees)


def pack(history: Fields, extras: Float[Array, "b y x e"]) -> Fields:
    """Input times side by side as channels, oldest first, and extras after the scalars."""
    scalar, eastward, northward = (
        jnp.moveaxis(array, 1, -2).reshape(*array.shape[:1], *array.shape[2:4], -1) for array in history
    )
    return Fields(jnp.concatenate([scalar, extras], axis=-1), eastward, northward)


def as_scalars(fields: Fields) -> Fields:
    """Winds as two scalars each: what a network without spin 1 gets."""
    scalar = jnp.concatenate(fields, axis=-1)
    return Fields(scalar, scalar[..., :0], scalar[..., :0])


def from_scalars(scalar: Float[Array, "b y x c"], width: Width) -> Fields:
    """Inverse of `as_scalars`."""
    split = width.scalars, width.scalars + width.vectors
    return Fields(*jnp.split(scalar, split, axis=-1))


class Forecaster(nnx.Module):
    """A spin-weighted spherical CNN that predicts one step: encoder, a pyramid of grids (or one), decoder.

    All of it but the non-linearities works on spectra. On the way down a level's first block leaves out the degrees
    that its grid does not resolve; on the way up the coarser features are added to those of the way down.

    Args:
        config: shape of the network.
        grid: grid of the fields.
        state: channels of the state.
        inputs: number of input times.
        extras: number of static and forcing channels together, all spin 0.
        step_hours: of a forecast step, for the noise.
        rngs: source of the initial values.
    """

    #: Of what a step ends with, see `weather_scnn.training.correctors`; set by `training.rollout.build`.
    correctors: Any = None

    def __init__(
        self,
        config: ModelConfig,
        grid: Grid,
        *,
        state: Width,
        inputs: int,
        extras: int,
        step_hours: float = 6.0,
        rngs: nnx.Rngs,
    ):
        self.state, self.config, self.extras = state, config, extras
        self.seasonal = config.seasonal
        levels = config.pyramid
        self.spins = any(level.vector_channels for level in levels)
        given = Width(state.scalars * inputs + extras, state.vectors * inputs)
        wanted = state
        if not self.spins:
            given, wanted = (Width(width.scalars + 2 * width.vectors, 0) for width in (given, wanted))
        self.wanted = wanted
        first = levels[0].width
        features_grid = config.grid_of_features(grid)
        harmonics = [self._harmonics(features_grid, level) for level in levels]
        self.harmonics = harmonics[0]
        if config.filter_degree > self.harmonics.max_degree:
            raise UserError(
                f"model.filter_degree is {config.filter_degree}, and the features end at degree {self.harmonics.max_degree}",
                remedy="leave it out, or raise model.max_degree",
            )
        #: Between the data's grid and spectra.
        self.boundary = harmonics[0]
        if features_grid != grid:
            self.boundary = Harmonics.create(
                grid, self.harmonics.max_degree, vectors=self.spins, precision=config.precision, beyond=True
            )

        def convolution(
            source: Width,
            target: Width,
            degree: int,
            level: Resolution,
            scale: float = 1.0,
            rngs: nnx.Rngs = rngs,
        ):
            return SpectralConvolution(
                source,
                target,
                degree,
                parameters=level.filter_parameters or None,
                last_knot=config.filter_degree or None,
                mirror_symmetric=config.mirror_symmetric,
                scale=scale,
                precision=config.precision,
                rngs=rngs,
            )

        def block(source: Width, number: int) -> ResidualBlock:
            return ResidualBlock(
                source, levels[number].width, harmonics[number], _options(config, levels[number]), rngs=rngs
            )

        self.encoder = convolution(given, first, harmonics[0].max_degree, levels[0])
        down, up = [], []
        for number, level in enumerate(levels):
            sources = [levels[number - 1].width if number else first] + [level.width] * level.blocks
            down.append(nnx.List([block(source, number) for source in sources[: level.blocks]]))
        for number, (level, below) in enumerate(itertools.pairwise(levels)):
            if level.blocks:
                sources = [below.width] + [level.width] * (level.blocks - 1)
                up.append(nnx.List([block(source, number) for source in sources]))
            else:
                degree = harmonics[number + 1].max_degree
                up.append(nnx.List([convolution(below.width, level.width, degree, below)]))
        self.down, self.up = nnx.List(down), nnx.List(up)
        # A small decoder starts the forecast near persistence.
        more = config.pointwise
        self.decoded = wanted._replace(scalars=wanted.scalars + more)
        self.decoder = convolution(first, self.decoded, harmonics[0].max_degree, levels[0], 0.01)
        # Starts as nothing, and takes no random numbers that the others would have.
        self.direct = (
            SpectralConvolution(
                given, self.decoded, harmonics[0].max_degree, mirror_symmetric=config.mirror_symmetric, scale=0.0,
                precision=config.precision, rngs=nnx.Rngs(0),
            )
            if config.direct
            else None
        )  # fmt: skip
        seen = given._replace(scalars=given.scalars + more)
        self.pointwise = PointwiseHead(seen, wanted, more, precision=config.precision, rngs=rngs) if more else None

        noise, degree = config.noise, min(self.harmonics.max_degree, self.harmonics.max_order)
        self.noise = (
            NoiseSource(
                vector=noise.vector,
                fields=noise.fields,
                lengths=tuple(1e3 * length for length in noise.length_scales),
                times=tuple(3600.0 * hours for hours in noise.correlation_hours),
                step=3600.0 * step_hours,
                max_degree=degree,
                winds=self.spins,
            )
            if noise.present
            else None
        )
        # Starts as nothing, and takes no random numbers that the others would have.
        self.noise_encoder = (
            convolution(self.noise.width, first, self.harmonics.max_degree, levels[0], 0.0, nnx.Rngs(0))
            if self.noise is not None and noise.fields
            else None
        )

    def _harmonics(self, grid: Grid, level: Resolution) -> Harmonics:
        grid = coarsened(grid, level.coarsening)
        if level.max_degree > grid.maximum_degree:
            raise UserError(
                f"model.max_degree is {level.max_degree} but a grid of {grid.name} resolves {grid.maximum_degree}",
                remedy="lower model.max_degree, or set model.feature_grid to a finer grid",
            )
        return Harmonics.create(
            grid,
            largest_degree(level, grid),
            vectors=self.spins,
            tensors=level.tensor_channels > 0,
            precision=self.config.precision,
        )

    def __call__(
        self,
        history: Fields,
        extras: Float[Array, "b y x e"],
        *,
        training: bool = False,
        mask: Float[Array, " b"] | None = None,
        noise: Noise | None = None,
        season: Float[Array, "b 2"] | None = None,
    ) -> Fields:
        """Predicts the standardised increment.

        Args:
            history: standardised states at the input times, oldest first, (b, t, y, x, c).
            extras: static fields and forcings, standardised, (b, y, x, e).
            training: whether batch statistics are used and updated.
            mask: weight of every sample in the batch statistics; default 1.
            noise: of this step, from the network's `noise`; None leaves it out.
            season: sine and cosine of the part of the year that has passed, for a network that is `seasonal`.

        Returns:
            Increments in units of their standard deviation, (b, y, x, c).
        """
        fields = pack(history, extras)
        if not self.spins:
            fields = as_scalars(fields)
        levels = self.config.pyramid
        inputs = self.boundary.analysis(fields)
        spectrum = self.harmonics.resampled(self.encoder(inputs))
        options: dict[str, Any] = {"training": training, "mask": mask, "season": season}
        if noise is not None and self.noise is not None:
            options["noise"] = noise.vector
            if self.noise_encoder is not None and noise.fields is not None:
                spectrum = spectrum + self.noise_encoder(self.noise.spectrum(noise.fields, spectrum))
        finer = []
        for level, blocks in zip(levels, self.down):
            spectrum = run_blocks(blocks, spectrum, remat=level.remat or self.config.remat, **options)
            finer.append(spectrum)
        for number in reversed(range(len(levels) - 1)):
            remat = levels[number].remat or self.config.remat
            rise, *others = self.up[number]
            if isinstance(rise, SpectralConvolution):
                spectrum = rise(spectrum)
            else:
                spectrum = run_blocks([rise], spectrum, remat=remat, **options)
            below = finer[number]
            spectrum = below + spectrum.resampled(below.max_degree, below.max_order)
            spectrum = run_blocks(others, spectrum, remat=remat, **options)
        decoded = self.boundary.resampled(self.decoder(spectrum))
        if self.direct is not None:
            decoded = decoded + self.direct(inputs)
        result = self.boundary.synthesis(decoded, self.decoded).fields
        if self.pointwise is not None:
            result = self._with_pointwise(result, fields)
        return result if self.spins else from_scalars(result.scalar, self.state)

    def _with_pointwise(self, result: Fields, inputs: Fields) -> Fields:
        """Adds what the inputs at each point say to the increment, whose last scalars are features for that."""
        scalar, features = jnp.split(result.scalar, [self.wanted.scalars], axis=-1)
        seen = inputs._replace(scalar=jnp.concatenate([inputs.scalar, features], axis=-1))
        assert self.pointwise is not None
        return map_fields(jnp.add, result._replace(scalar=scalar), self.pointwise(seen))


def _options(config: ModelConfig, level: Resolution) -> BlockOptions:
    return BlockOptions(
        filter_parameters=level.filter_parameters or None,
        last_knot=config.filter_degree or None,
        gate=config.gate,
        mirror_symmetric=config.mirror_symmetric,
        nonlinearity=config.nonlinearity,
        normalisation=config.normalisation,
        residual=config.residual,
        activate_after_skip=config.activate_after_skip,
        branch_scale=config.branch_scale,
        noise=config.noise.vector,
        seasonal=config.seasonal,
        precision=config.precision,
        dtype=config.activations,
    )
