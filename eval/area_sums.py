"""Area-weighted sums of errors and anomalies: the inner loop of scoring, with and without missing points.

Shapes: l lead times, v levels, p points of the map (latitude · longitude), r regions, k columns of weights.

With e = f − o and the truth's anomaly o′ = o − c, the forecast's anomaly is f′ = e + o′. So Σw f′, Σw f′² and Σw f′o′
follow from Σw e, Σw e², Σw e o′ and the sums of o′, o′², which depend on the valid time alone: a field is read from
memory once, and one product with the weights gives nine sums (`eval.scores.errors`). Points that do not count add 0.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

# Float64 values of one batch: five arrays of this size stay within a core's second-level cache.
_BATCH_VALUES = 2**15


@dataclasses.dataclass(frozen=True)
class AreaWeights:
    """Weights of the regions, and sums by them.

    Regions are boxes, so along a row the weights are a constant times one of few patterns: all longitudes, or those of a
    box. Values are summed by patterns first, a product of good shape, and these sums by regions: for 13 regions 4 times as
    fast as one product with all points' weights, whose long side no blocking of a matrix product likes.

    Attributes:
        regions: shape (region, latitude, longitude), zero outside a region.
        pooled: whether unweighted sums over each region are needed too, as WeatherBench 1 does.
    """

    regions: Float[np.ndarray, "r y x"]
    pooled: bool = False

    def __post_init__(self) -> None:
        weighted = np.ascontiguousarray(self.regions, np.float64)
        inside = [(weighted > 0).astype(np.float64)] if self.pooled else []
        # Ones give a plain sum, which is finite only if every value is.
        every = np.concatenate([weighted, *inside, np.ones((1, *weighted.shape[1:]))])
        rows, longitudes = every.shape[1:]
        size = every.max(axis=2)
        patterns, which = np.unique(
            (every / np.where(size > 0, size, 1.0)[..., None]).reshape(-1, longitudes), axis=0, return_inverse=True
        )
        spread = np.zeros((rows, len(patterns), len(every)))
        region, row = np.indices(size.shape)
        spread[row, which.reshape(size.shape), region] = size
        used = spread.any(axis=(0, 2))
        object.__setattr__(self, "columns", weighted.reshape(len(weighted), -1).T.copy())
        object.__setattr__(self, "_patterns", np.ascontiguousarray(patterns[used].T))
        object.__setattr__(self, "_spread", np.ascontiguousarray(spread[:, used].reshape(-1, len(every))))

    columns: np.ndarray = dataclasses.field(init=False, repr=False)
    _patterns: np.ndarray = dataclasses.field(init=False, repr=False)
    _spread: np.ndarray = dataclasses.field(init=False, repr=False)

    @property
    def width(self) -> int:
        """Columns of `sums`."""
        return self._spread.shape[1]

    @property
    def total(self) -> np.ndarray:
        """Σw of each region, shape (r,)."""
        return self.columns.sum(axis=0)

    @property
    def count(self) -> np.ndarray:
        """Points of each region, shape (r,)."""
        return (self.columns > 0).sum(axis=0).astype(np.float64)

    def sums(self, values: Float[np.ndarray, "*b p"]) -> Float[np.ndarray, "*b k"]:
        """Sums by the weights of every region, then unweighted over each if `pooled`, then over all points."""
        rows = values.reshape(-1, self._patterns.shape[0]) @ self._patterns
        return rows.reshape(*values.shape[:-1], -1) @ self._spread


@dataclasses.dataclass(frozen=True)
class TruthSums:
    """Sums over the truth's anomalies, each of shape (time, v, r); `finite` of shape (time, v)."""

    anomaly: np.ndarray
    squared: np.ndarray
    absolute: np.ndarray
    unweighted: np.ndarray
    finite: np.ndarray

    def at(self, index) -> "TruthSums":
        """Those of some times."""
        return TruthSums(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


def truth_sums(
    truth: Sequence[Float[np.ndarray, "v p"]] | Float[np.ndarray, "t v p"],
    anomaly: Sequence[Float[np.ndarray, "v p"]] | Float[np.ndarray, "t v p"] | None,
    weights: AreaWeights,
) -> TruthSums:
    """Sums of o′ for each time; of zeros where there is no climatology."""
    shape = (len(truth), len(truth[0]) if len(truth) else 0, weights.columns.shape[1])
    finite = np.array([np.isfinite(each.sum(axis=-1)) for each in truth], bool).reshape(shape[:2])
    zeros = np.zeros(shape)
    if anomaly is None or not len(anomaly):
        return TruthSums(zeros, zeros, zeros, zeros, finite)
    count = shape[-1]
    exact = np.empty((3, *anomaly[0].shape))
    found = np.empty((3, *shape[:2], weights.width))
    for time, each in enumerate(anomaly):
        np.copyto(exact[0], each)
        np.multiply(exact[0], exact[0], out=exact[1])
        np.abs(exact[0], out=exact[2])
        found[:, time] = weights.sums(exact)
    plain, squared, absolute = found
    return TruthSums(
        plain[..., :count],
        squared[..., :count],
        absolute[..., :count],
        plain[..., count : 2 * count] if weights.pooled else zeros,
        finite & np.isfinite(plain[..., -1]),
    )


class Scratch:
    """Arrays that the inner loop writes into again and again: e, e², |e| and e·o′ of some maps, and e as float32."""

    def __init__(self, points: int):
        self._points = points
        self._array = np.empty(4 * max(_BATCH_VALUES, points))
        self._single = np.empty(max(_BATCH_VALUES, points), np.float32)

    @property
    def rows(self) -> int:
        """Rows of a map's points that fit."""
        return max(1, _BATCH_VALUES // self._points)

    def take(self, rows: tuple[int, int]) -> np.ndarray:
        """Shape (4, *rows, points)."""
        return self._array[: 4 * rows[0] * rows[1] * self._points].reshape(4, *rows, self._points)

    def take_single(self, rows: tuple[int, int]) -> np.ndarray:
        """Shape (*rows, points), float32."""
        return self._single[: rows[0] * rows[1] * self._points].reshape(*rows, self._points)


def error_sums(
    forecast: Float[np.ndarray, "#l v p"],
    truth: Float[np.ndarray, "l v p"],
    anomaly: Float[np.ndarray, "l v p"] | None,
    weights: AreaWeights,
    scratch: Scratch,
    mask: Bool[np.ndarray, "l v p"] | None = None,
) -> Float[np.ndarray, "4 l v k"]:
    """Sums of e, e², |e| and e·o′, these 0 without an anomaly.

    Products and sums are float64. The difference of float32 fields is taken as such: it is exact where one is at most
    twice the other (Sterbenz), and else rounded once, by less than the fields themselves are. Casts stand by themselves,
    for NumPy is a third faster at them than at operations on arrays of two types.

    Args:
        forecast: float32 or float64; its first axis may have length 1, as of persistence.
        truth: float32 or float64.
        anomaly: truth minus climatology, float32 or float64; None if there is no climatology for this variable.
        weights: of the regions.
        scratch: for the map's size.
        mask: points that count; all if None.
    """
    leads, levels, _ = truth.shape
    found = np.zeros((4, leads, levels, weights.width))
    one_level = min(levels, scratch.rows)
    some_leads = max(1, scratch.rows // levels)
    single = forecast.dtype == truth.dtype == np.float32
    # Of a faulty forecast's infinities warnings would say nothing more.
    with np.errstate(invalid="ignore", over="ignore"):
        for first in range(0, leads, some_leads):
            lead = slice(first, min(first + some_leads, leads))
            for low in range(0, levels, one_level):
                part = (lead, slice(low, min(low + one_level, levels)))
                observed = truth[part]
                batch = scratch.take(observed.shape[:2])
                difference, square, size, product = batch
                predicted = forecast[:, part[1]] if forecast.shape[0] == 1 else forecast[part]
                if single:
                    np.copyto(difference, np.subtract(predicted, observed, out=scratch.take_single(observed.shape[:2])))
                else:
                    np.subtract(predicted, observed, out=difference, dtype=np.float64)
                if anomaly is not None:
                    np.copyto(product, anomaly[part])
                    product *= difference
                if mask is not None:
                    for each in (difference, product):
                        np.copyto(each, 0.0, where=~mask[part])
                np.abs(difference, out=size)
                np.multiply(difference, difference, out=square)
                used = 3 if anomaly is None else 4
                found[:used, *part] = weights.sums(batch[:used])
    return found


def length_sums(
    forecast: Sequence[Float[np.ndarray, "#l v p"]],
    truth: Sequence[Float[np.ndarray, "l v p"]],
    weights: AreaWeights,
    scratch: Scratch,
    mask: Bool[np.ndarray, "l v p"] | None = None,
) -> Float[np.ndarray, "l v r"]:
    """Σ w √(Δu² + Δv²), the sums of the length of the error of a wind.

    Args:
        forecast: two components; their first axis may have length 1, as of persistence.
        truth: two components.
        weights: of the regions.
        scratch: for the map's size.
        mask: points that count; all if None.
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
                if mask is not None:
                    np.copyto(length, 0.0, where=~mask[lead, part])
                sums[lead, part] = weights.sums(length)[..., : sums.shape[-1]]
    return sums
