"""The residual block, whose skip is added to the spectrum."""

from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.nn.activation import PhaseCollapse
from weather_scnn.nn.convolution import SpectralConvolution
from weather_scnn.nn.features import Harmonics, Width
from weather_scnn.nn.normalisation import SpectralBatchNorm


class ResidualBlock(nnx.Module):
    """convolution → batch norm → grid → phase collapse → spectrum → convolution → batch norm, added to the input.

    The last batch norm starts with scale 0, so that a new block changes nothing. Features stay spectra between
    blocks: one synthesis and one analysis a block.

    Args:
        width: channels in and out.
        harmonics: transform of the grid the non-linearity acts on.
        filter_parameters: free values of each filter along l.
        gate: see `PhaseCollapse`.
        mirror_symmetric: see `SpectralConvolution`.
        rngs: source of the initial values.
    """

    def __init__(
        self,
        width: Width,
        harmonics: Harmonics,
        *,
        filter_parameters: int | None,
        gate: bool = False,
        mirror_symmetric: bool = False,
        rngs: nnx.Rngs,
    ):
        self.width, self.harmonics = width, harmonics

        def convolution() -> SpectralConvolution:
            return SpectralConvolution(
                width,
                width,
                harmonics.max_degree,
                parameters=filter_parameters,
                mirror_symmetric=mirror_symmetric,
                rngs=rngs,
            )

        self.first, self.first_norm = convolution(), SpectralBatchNorm(width)
        self.activation = PhaseCollapse(width, gate=gate, rngs=rngs)
        self.second, self.second_norm = convolution(), SpectralBatchNorm(width, initial_scale=0.0)

    def __call__(self, spectrum: Float[Array, "b l m 2 C"], *, training: bool) -> Float[Array, "b l m 2 C"]:
        branch = self.first_norm(self.first(spectrum), training=training)
        fields = self.activation(self.harmonics.synthesis(branch, self.width))
        branch = self.second(self.harmonics.analysis(fields))
        return spectrum + self.second_norm(branch, training=training)
