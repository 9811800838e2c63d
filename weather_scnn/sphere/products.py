"""What products of matrices are computed in: one word for all backends.

| precision | CPU | GPU | TPU |
|---|---|---|---|
| highest | float32, 3e-7 | float32, 3e-7 | six passes of bfloat16, 3e-7 |
| high | float32, 3e-7 | three passes of TF32, 3e-7 | three passes of bfloat16, 1e-5 |
| default | float32, 3e-7 | one pass of TF32, 5e-4 | one pass of bfloat16, 4e-3 |

with the largest error of a round trip at 64 rows, in units of the largest coefficient. On a GPU those of one pass and of
float32 are measured, the others are of passes made of rounded parts.

On GPUs `jax.lax.Precision.HIGH` is one pass of TF32, so three are asked for by the name of the algorithm. Values in other
types than float32 have nothing to choose: float64 is exact, products of bfloat16 are summed in float32. Sums that decide
(losses, means, moments of norms, interpolated filters) are `EXACT` whatever is chosen.
"""

from typing import Any

import jax
import numpy as np

from weather_scnn.errors import UserError
from weather_scnn.sphere.layouts import current_platform

#: Words for the precision of products.
PRECISIONS = ("highest", "high", "default")
#: Of sums that decide.
EXACT = jax.lax.Precision.HIGHEST


def check_precision(precision: str) -> str:
    """The precision, or a UserError if there is none of that name."""
    if precision not in PRECISIONS:
        raise UserError(f"the precision {precision!r}", remedy=f"choose {', '.join(PRECISIONS)}")
    return precision


def product_precision(precision: str, dtype: Any) -> Any:
    """What JAX's products take as `precision`, for values of a type, on the present platform.

    Args:
        precision: one of `PRECISIONS`.
        dtype: of both operands.
    """
    if np.dtype(dtype) != np.float32:
        return EXACT if np.dtype(dtype).itemsize > 4 else jax.lax.Precision.DEFAULT
    if precision == "high" and current_platform() in ("gpu", "cuda"):
        return jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
    return {"highest": EXACT, "high": jax.lax.Precision.HIGH, "default": jax.lax.Precision.DEFAULT}[precision]
