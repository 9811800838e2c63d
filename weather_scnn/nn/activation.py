"""Pointwise non-linearities that commute with rotations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.nn.features import Features, Pair, Width
from weather_scnn.sphere import Grid
from weather_scnn.sphere.products import check_precision, product_precision

_KEPT = 0.85


def magnitude(pair: Pair, floor: float = 1e-6) -> Float[Array, "*b y x d"]:
    """|x| of fields of spin 1 or 2, with a finite gradient where they vanish."""
    return jnp.sqrt(jnp.square(pair.real) + jnp.square(pair.imaginary) + floor**2)


class PhaseCollapse(nnx.Module):
    """x₀ ← W₁ x₀ + W₂ |x| + b over the channels of all spins; other spins pass (Esteves et al. 2023).

    Initialisation: for Gaussian features of unit variance (per component at spin > 0), |x₀| has mean √(2/π) and
    variance 1 − 2/π, |x_s| (Rayleigh) mean √(π/2) and variance 2 − π/2. Of that variance a part lies above the degrees of
    the features and is lost in analysis: 0.27 for white features at all degrees that a grid resolves (measured, 12 to
    32 rows), 0.44 where it is oversampled, next to nothing for smooth ones; 0.15 is assumed. W₁ and W₂ are drawn so
    that each then gives half of a unit variance, and b takes off the mean of W₂|x|, which would otherwise add up over
    the layers.

    Args:
        width: channels.
        gate: also multiplies each field of spin > 0 by a factor in (0, 2) that depends on the new spin-0 fields,
            which gives the network products of scalars and winds. It starts as 1.
        dtype: in which products are computed.
        precision: of products in float32, see `weather_scnn.sphere.products`.
        rngs: source of the initial values.
    """

    def __init__(
        self,
        width: Width,
        *,
        gate: bool = False,
        dtype: jnp.dtype = jnp.float32,
        precision: str = "high",
        rngs: nnx.Rngs,
    ):
        c, pairs = width.scalars, width.pairs
        spread = _KEPT * (c * (1 - 2 / math.pi) + pairs * (2 - math.pi / 2))
        linear, collapsed = (rngs.params.normal((rows, c)) for rows in (c, width.channels))
        linear, collapsed = linear * math.sqrt(0.5 / c), collapsed * math.sqrt(0.5 / spread)
        means = jnp.array([math.sqrt(2 / math.pi)] * c + [math.sqrt(math.pi / 2)] * pairs)
        self.kernel = nnx.Param(jnp.concatenate([linear, collapsed]))
        self.bias = nnx.Param(-means @ collapsed)
        self.dtype, self.precision = dtype, check_precision(precision)
        zeros = nnx.initializers.zeros
        self.gate = nnx.Linear(c, pairs, kernel_init=zeros, dtype=dtype, rngs=rngs) if gate and pairs else None

    def __call__(self, features: Features) -> Features:
        scalar = features.scalar
        pairs = [pair for pair in (features.vector, features.tensor) if pair.real.shape[-1]]
        invariants = [scalar, jnp.abs(scalar), *map(magnitude, pairs)]
        kernel = self.kernel[...].astype(self.dtype)
        cuts = np.cumsum([part.shape[-1] for part in invariants])[:-1]
        # One product for each: side by side they would be one, of as much work, but for a copy of them all.
        precision = product_precision(self.precision, self.dtype)
        scalar = self.bias[...].astype(self.dtype)
        for part, rows in zip(invariants, jnp.split(kernel, cuts)):
            scalar = scalar + jnp.matmul(part.astype(self.dtype), rows, precision=precision)
        if self.gate is None:
            return features._replace(scalar=scalar)
        weights, bias = self.gate.kernel[...].astype(self.dtype), jnp.asarray(self.gate.bias, self.dtype)
        factor = 2.0 * jax.nn.sigmoid(jnp.matmul(scalar, weights, precision=precision) + bias)
        factors = jnp.split(factor, [features.vector.real.shape[-1]], axis=-1)
        gated = [
            Pair(*(part * own for part in pair)) if own.shape[-1] else pair
            for pair, own in zip((features.vector, features.tensor), factors)
        ]
        return Features(scalar, *gated)


class MagnitudeActivation(nnx.Module):
    """Leaky ReLU at spin 0, relu(|x| + b) x/|x| at spin > 0: what phase collapse is compared with.

    After the magnitude non-linearity of Esteves, Makadia and Daniilidis (2020), whose b also starts at 0.

    Args:
        width: channels.
    """

    def __init__(self, width: Width):
        self.bias = nnx.Param(jnp.zeros(width.pairs))

    def __call__(self, features: Features) -> Features:
        biases = jnp.split(self.bias[...].astype(features.scalar.dtype), [features.vector.real.shape[-1]])

        def shrunk(pair: Pair, bias: Array) -> Pair:
            size = magnitude(pair)
            factor = jax.nn.relu(size + bias) / size
            return Pair(*(part * factor for part in pair))

        pairs = (shrunk(pair, bias) for pair, bias in zip((features.vector, features.tensor), biases))
        return Features(jax.nn.leaky_relu(features.scalar), *pairs)


class ProductActivation(nnx.Module):
    """x₀ ← W₁ x₀ + W₂ |x|² + b over the channels of all spins, x_s ← (1 + W₃ x₀) x_s: products of two fields.

    Products of fields of degree L have degree 2L, so a grid that resolves those (`product_grid`) commutes with rotations
    to rounding. No other pointwise non-linearity does: the magnitudes of phase collapse have all degrees, and a grid folds
    those it does not resolve onto others.

    Initialisation: for Gaussian features of unit variance (per component at spin > 0) x₀² has mean 1 and variance 2,
    |x_s|² mean 2 and variance 4; W₁ and W₂ each give half of a unit variance, b takes off the mean, and W₃ is 0.

    Args:
        width: channels.
        precision: of products in float32, see `weather_scnn.sphere.products`.
        rngs: source of the initial values.
    """

    def __init__(self, width: Width, *, precision: str = "high", rngs: nnx.Rngs):
        c, pairs = width.scalars, width.pairs
        linear = rngs.params.normal((c, c)) * math.sqrt(0.5 / c)
        squares = rngs.params.normal((width.channels, c)) * math.sqrt(0.5 / (2 * c + 4 * pairs))
        self.kernel = nnx.Param(jnp.concatenate([linear, squares]))
        self.bias = nnx.Param(-jnp.array([1.0] * c + [2.0] * pairs) @ squares)
        self.gate = nnx.Param(jnp.zeros((c, pairs))) if pairs else None
        self.precision = check_precision(precision)

    def __call__(self, features: Features) -> Features:
        scalar, dtype = features.scalar, features.scalar.dtype
        pairs = [pair for pair in (features.vector, features.tensor) if pair.real.shape[-1]]
        parts = [scalar, jnp.square(scalar), *(jnp.square(pair.real) + jnp.square(pair.imaginary) for pair in pairs)]
        cuts = np.cumsum([part.shape[-1] for part in parts])[:-1]
        precision = product_precision(self.precision, dtype)
        found = self.bias[...].astype(dtype)
        for part, rows in zip(parts, jnp.split(self.kernel[...].astype(dtype), cuts)):
            found = found + jnp.matmul(part, rows, precision=precision)
        if self.gate is None:
            return features._replace(scalar=found)
        factor = 1.0 + jnp.matmul(scalar, self.gate[...].astype(dtype), precision=precision)
        factors = jnp.split(factor, [features.vector.real.shape[-1]], axis=-1)
        gated = [Pair(*(part * own for part in pair)) for pair, own in zip((features.vector, features.tensor), factors)]
        return Features(found, *gated)


def product_grid(max_degree: int) -> Grid:
    """The smallest Gaussian grid on which products of two fields are analysed without error up to the fields' own degree.

    A product of degree 2L with a harmonic of degree L is integrated exactly by (3L + 1)/2 Gaussian rows, and 3L + 1 points
    on a circle keep its orders apart (Orszag 1971); an even number of rows, and a multiple of four points, fold best.
    """
    return Grid.gaussian(4 * math.ceil((3 * max_degree + 1) / 4), 2 * math.ceil((3 * max_degree + 1) / 4))
