"""Scores of winds as vectors, from both components at the same points.

Shapes: l lead times, v levels, p points of the map, r regions.

Squares and products of a vector are the sums of those of its components. Of sums that a component has a sign in, the
vector's is the length of the vector of both: ⟨|x|²⟩ − |⟨x⟩|² is then the variance of a vector, as of a scalar.
"""

import numpy as np
from jaxtyping import Bool, Float

from eval.moments import AreaWeights, Scratch, moment_sums, moments_of, weighted_sums

_ADDED = ("squared_error", "forecast_anomaly_squared", "truth_anomaly_squared", "anomaly_product")
_LENGTHS = ("error", "forecast_anomaly", "truth_anomaly")


def vector_moments(
    eastward: Float[np.ndarray, "moment ..."],
    northward: Float[np.ndarray, "moment ..."],
    lengths: Float[np.ndarray, "..."],
    *,
    anomalies: bool,
    pooled: bool,
) -> Float[np.ndarray, "moment ..."]:
    """The moments of a wind from those of its components over the same points.

    Args:
        eastward: of `eval.moments.moments_of`.
        northward: the same.
        lengths: Σ w |Δ|, the sums of the length of the error.
        anomalies: whether there are moments of anomalies.
        pooled: whether sums are pooled over init times; lengths of vectors cannot be, and are NaN.
    """
    names = moments_of(anomalies=anomalies, pooled=pooled)
    moments = np.full(eastward.shape, np.nan)
    moments[names.index("weight")] = eastward[names.index("weight")]
    moments[names.index("absolute_error")] = lengths
    for number, name in enumerate(names):
        if name in _ADDED:
            moments[number] = eastward[number] + northward[number]
        elif name in _LENGTHS and not pooled:
            moments[number] = np.hypot(eastward[number], northward[number])
    return moments


def error_lengths(
    forecast: tuple[Float[np.ndarray, "l v p"], Float[np.ndarray, "l v p"]],
    truth: tuple[Float[np.ndarray, "l v p"], Float[np.ndarray, "l v p"]],
    weights: AreaWeights,
    scratch: Scratch,
) -> Float[np.ndarray, "l v r"]:
    """Σ w √(Δu² + Δv²) of winds without missing values; NaN or infinite where something is missing.

    Args:
        forecast: components; their first axis may have length 1, as of persistence.
        truth: components.
        weights: of the regions.
        scratch: for the map's size.
    """
    leads, levels, _ = truth[0].shape
    sums = np.empty((leads, levels, weights.columns.shape[1]))
    for lead in range(leads):
        for low in range(0, levels, scratch.rows):
            part = slice(low, min(low + scratch.rows, levels))
            length, work = scratch.take((1, part.stop - low))[:2, 0]
            at = [each[0 if each.shape[0] == 1 else lead, part] for each in forecast]
            with np.errstate(invalid="ignore", over="ignore"):
                np.subtract(at[0], truth[0][lead, part], out=length, dtype=np.float64)
                np.multiply(length, length, out=length)
                np.subtract(at[1], truth[1][lead, part], out=work, dtype=np.float64)
                np.multiply(work, work, out=work)
                np.sqrt(np.add(length, work, out=length), out=length)
                sums[lead, part] = weights.sums(length)[..., : sums.shape[-1]]
    return sums


def masked_vector_moments(
    forecast: Float[np.ndarray, "component ... y x"],
    truth: Float[np.ndarray, "component ... y x"],
    climatology: Float[np.ndarray, "component ... y x"] | None,
    weights: Float[np.ndarray, "r y x"],
    valid: Bool[np.ndarray, "... y x"],
    *,
    anomalies: bool,
    pooled: bool = False,
) -> Float[np.ndarray, "moment ... r"]:
    """The moments of a wind over the points where both components are valid, by their definitions.

    Args:
        forecast: eastward and northward component along the first axis.
        truth: what happened.
        climatology: at valid time; None if there is none, which makes the anomaly sums NaN.
        weights: see `eval.regions.region_weights`.
        valid: points to use; the values elsewhere may be NaN.
        anomalies: see `vector_moments`.
        pooled: see `vector_moments`.
    """
    east, north = (
        moment_sums(
            forecast[number], truth[number], None if climatology is None else climatology[number], weights, valid,
            anomalies=anomalies, pooled=pooled,
        )
        for number in range(2)
    )  # fmt: skip
    errors = [np.where(valid, forecast[number] - truth[number], 0.0).astype(np.float64) for number in range(2)]
    lengths = weighted_sums(np.hypot(errors[0], errors[1]), weights)
    return vector_moments(east, north, lengths, anomalies=anomalies, pooled=pooled)
