"""The residual block, whose skip is added to the spectrum."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from weather_scnn.errors import UserError
from weather_scnn.nn.activation import MagnitudeActivation, PhaseCollapse, ProductActivation
from weather_scnn.nn.convolution import SpectralConvolution
from weather_scnn.nn.features import Harmonics, Width
from weather_scnn.nn.noise import NoiseModulation
from weather_scnn.nn.normalisation import LayerScale, SpatialBatchNorm, SpectralBatchNorm
from weather_scnn.sphere.spectrum import Spectrum

#: Names under which spectra within a block, and fields before the non-linearity, are known to rematerialisation policies.
SPECTRUM, FIELDS = "spectrum", "fields"
#: What a block may be made of.
NONLINEARITIES, NORMALISATIONS = ("phase_collapse", "magnitude", "product"), ("spectral", "spatial", "none")


@dataclasses.dataclass(frozen=True)
class BlockOptions:
    """What a residual block is made of.

    Attributes:
        filter_parameters: free values of each filter along l; None gives one a degree.
        last_knot: degree beyond which filters stay constant; None for the largest.
        gate: see `PhaseCollapse`.
        mirror_symmetric: see `SpectralConvolution`.
        nonlinearity: phase_collapse, magnitude or product.
        normalisation: spectral, spatial or none.
        residual: add the input; without it the block is its branch alone.
        activate_after_skip: a second non-linearity on the sum, as in Esteves et al. (2023), at the price of one more
            pair of transforms.
        branch_scale: scale at which the branch starts. 0 makes a new block the identity. A scale s multiplies the
            variance by 1 + s² a block.
        momentum: see `SpectralBatchNorm`.
        axis_name: see `SpectralBatchNorm`.
        noise: numbers of the vector of noise that scales and shifts the channels after the first norm; 0 for none.
        seasonal: whether the place in the year does so, too.
        precision: of products in float32, see `weather_scnn.sphere.products`.
        dtype: of the activations; tables and sums stay float32, as does what skips the branch.
    """

    filter_parameters: int | None = None
    last_knot: int | None = None
    gate: bool = False
    mirror_symmetric: bool = False
    nonlinearity: str = "phase_collapse"
    normalisation: str = "spectral"
    residual: bool = True
    activate_after_skip: bool = False
    branch_scale: float = 0.0
    momentum: float = 0.98
    axis_name: str | None = None
    noise: int = 0
    seasonal: bool = False
    precision: str = "high"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, known in (("nonlinearity", NONLINEARITIES), ("normalisation", NORMALISATIONS)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"a residual block with the {name} {getattr(self, name)!r}", remedy=f"choose {' or '.join(known)}"
                )


class ResidualBlock(nnx.Module):
    """convolution → norm → grid → non-linearity → spectrum → convolution → norm, added to the input.

    Features stay spectra between blocks: one synthesis and one analysis a block. A spectrum of a higher degree than the
    block's is truncated first (spectral pooling), one of a lower degree is filled with zeros (upsampling). The skip is
    projected only where channels differ, by a convolution without bias.

    Args:
        inputs: channels in.
        outputs: channels out.
        harmonics: transform of the grid the non-linearity acts on.
        options: what it is made of.
        rngs: source of the initial values.
    """

    def __init__(self, inputs: Width, outputs: Width, harmonics: Harmonics, options: BlockOptions, *, rngs: nnx.Rngs):
        self.width, self.harmonics, self.options = outputs, harmonics, options

        def convolution(source: Width) -> SpectralConvolution:
            return SpectralConvolution(
                source,
                outputs,
                harmonics.max_degree,
                parameters=options.filter_parameters,
                last_knot=options.last_knot,
                mirror_symmetric=options.mirror_symmetric,
                precision=options.precision,
                rngs=rngs,
            )

        def norm(scale: float) -> nnx.Module | None:
            common: dict[str, Any] = {
                "momentum": options.momentum,
                "axis_name": options.axis_name,
                "initial_scale": scale,
            }
            if options.normalisation == "spectral":
                return SpectralBatchNorm(outputs, **common)
            return SpatialBatchNorm(outputs, harmonics.grid, **common)

        def activation() -> nnx.Module:
            if options.nonlinearity == "magnitude":
                return MagnitudeActivation(outputs)
            if options.nonlinearity == "product":
                return ProductActivation(outputs, precision=options.precision, rngs=rngs)
            return PhaseCollapse(
                outputs, gate=options.gate, dtype=jnp.dtype(options.dtype), precision=options.precision, rngs=rngs
            )

        scale = options.branch_scale if options.residual else 1.0
        plain = options.normalisation == "none"
        self.first, self.first_norm = convolution(inputs), None if plain else norm(1.0)
        self.noise = NoiseModulation(outputs, options.noise) if options.noise else None
        self.season = NoiseModulation(outputs, 2) if options.seasonal else None
        self.activation = activation()
        self.second = convolution(outputs)
        self.second_norm = LayerScale(outputs, scale) if plain else norm(scale)
        self.projection = convolution(inputs) if options.residual and inputs != outputs else None
        self.last_activation = activation() if options.activate_after_skip else None

    def __call__(
        self,
        spectrum: Spectrum,
        *,
        training: bool,
        mask: Float[Array, " b"] | None = None,
        noise: Float[Array, "b n"] | None = None,
        season: Float[Array, "b 2"] | None = None,
    ) -> Spectrum:
        """Spectrum to spectrum; see `SpectralBatchNorm` for the mask."""
        options: dict[str, Any] = {"training": training, "mask": mask}
        given = self.harmonics.resampled(spectrum)
        branch = checkpoint_name(self.first(given.astype(jnp.dtype(self.options.dtype))), SPECTRUM)

        branch = self._on_grid(branch, options, ((self.noise, noise), (self.season, season)))
        branch = checkpoint_name(self.second(checkpoint_name(branch, SPECTRUM)), SPECTRUM)
        if isinstance(self.second_norm, LayerScale):
            branch = self.second_norm(branch)
        elif isinstance(self.second_norm, SpectralBatchNorm):
            branch = self.second_norm(branch, **options)
        elif isinstance(self.second_norm, SpatialBatchNorm):
            features = self.harmonics.synthesis(branch, self.width)
            branch = self.harmonics.analysis(self.second_norm(features, **options))
        result = branch.astype(spectrum.dtype)
        if self.options.residual:
            skip = given if self.projection is None else self.projection(given)
            result = skip + result
        if self.last_activation is not None:
            features = self.harmonics.synthesis(result, self.width, inner=True)
            features = features.astype(jnp.dtype(self.options.dtype))
            result = self.harmonics.analysis(self.last_activation(features), inner=True).astype(spectrum.dtype)
        return result

    def _on_grid(self, branch: Spectrum, options: dict[str, Any], conditions: Iterable[tuple[Any, Any]]) -> Spectrum:
        """Norm, synthesis, non-linearity and analysis, in the precision of `branch`."""
        if isinstance(self.first_norm, SpectralBatchNorm):
            branch = self.first_norm(branch, **options)
        for modulation, vector in conditions:
            if modulation is not None and vector is not None:
                branch = modulation(branch, vector)
        # Only means over the sphere ask which axis is which.
        spatial = isinstance(self.first_norm, SpatialBatchNorm)
        features = self.harmonics.synthesis(branch, self.width, inner=not spatial).astype(branch.dtype)
        features = checkpoint_name(features, FIELDS)
        if isinstance(self.first_norm, SpatialBatchNorm):
            features = self.first_norm(features, **options)
        return self.harmonics.analysis(self.activation(features), inner=not spatial).astype(branch.dtype)
