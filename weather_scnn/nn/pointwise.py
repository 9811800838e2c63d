"""What a network with truncated spectra cannot say: a function of the inputs at each point of the grid.

Fields on a grid hold more than the harmonics of the network do: on 64x32 a third (root mean square) of what T850 changes by
in six hours, and the edges of coasts and mountains, lie outside of degree 30. A function of what is at the point itself
passes them, and commutes with whatever moves the points.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.nn.features import Fields, Width
from weather_scnn.sphere.products import check_precision, product_precision


class PointwiseHead(nnx.Module):
    """A hidden layer on the scalars of each point; scalars out, and factors of the winds that came in. Starts as nothing.

    Args:
        inputs: scalars and winds that come in.
        outputs: scalars and winds that go out.
        hidden: features between.
        precision: of products, see `weather_scnn.sphere.products`.
        rngs: source of the initial values.
    """

    def __init__(self, inputs: Width, outputs: Width, hidden: int, *, precision: str = "high", rngs: nnx.Rngs):
        self.inputs, self.outputs, self.precision = inputs, outputs, check_precision(precision)
        options = {"precision": product_precision(precision, jnp.float32), "rngs": rngs}
        self.first = nnx.Linear(inputs.scalars, hidden, **options)
        zeros = nnx.initializers.zeros
        given = outputs.scalars + outputs.vectors * inputs.vectors
        self.second = nnx.Linear(hidden, given, kernel_init=zeros, **options)

    def __call__(self, fields: Fields) -> Fields:
        """Increments, (b, y, x, c), of inputs (b, y, x, C)."""
        found = self.second(jax.nn.gelu(self.first(fields.scalar)))
        scalar, factors = found[..., : self.outputs.scalars], found[..., self.outputs.scalars :]
        factors = factors.reshape(*found.shape[:-1], self.inputs.vectors, self.outputs.vectors)
        return Fields(scalar, *(_weighted(part, factors) for part in (fields.eastward, fields.northward)))


def _weighted(part: Float[Array, "*b c"], factors: Float[Array, "*b c d"]) -> Float[Array, "*b d"]:
    return (part[..., None] * factors).sum(axis=-2)
