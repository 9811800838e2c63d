"""Pointwise non-linearities that commute with rotations."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.nn.features import Fields, Width


def magnitude(fields: Fields, floor: float = 1e-6) -> Float[Array, "*b y x d"]:
    """|x| of spin-1 fields, with a finite gradient where they vanish."""
    return jnp.sqrt(jnp.square(fields.eastward) + jnp.square(fields.northward) + floor**2)


class PhaseCollapse(nnx.Module):
    """x₀ ← W₁ x₀ + W₂ |x| + b over the channels of all spins; spin-1 fields pass (Esteves et al. 2023).

    Args:
        width: channels.
        gate: also multiplies each spin-1 field by a factor in (0, 2) that depends on the new spin-0 fields, which
            gives the network products of scalars and winds.
        rngs: source of the initial values.
    """

    def __init__(self, width: Width, *, gate: bool = False, rngs: nnx.Rngs):
        features = 2 * width.scalars + width.vectors
        self.collapse = nnx.Linear(features, width.scalars, rngs=rngs)
        self.gate = nnx.Linear(width.scalars, width.vectors, rngs=rngs) if gate else None

    def __call__(self, fields: Fields) -> Fields:
        invariants = jnp.concatenate([fields.scalar, jnp.abs(fields.scalar), magnitude(fields)], axis=-1)
        scalar = self.collapse(invariants)
        if self.gate is None:
            return fields._replace(scalar=scalar)
        factor = 2.0 * jax.nn.sigmoid(self.gate(scalar))
        return Fields(scalar, fields.eastward * factor, fields.northward * factor)
