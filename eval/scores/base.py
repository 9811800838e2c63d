"""What a score is: the area sums that it needs, how they become a number, what it is called and how it is drawn.

Shapes: l lead times, v levels, p points of the map, r regions.

Sums of one pass over a `Chunk` are an `AreaSums`. Of those of one init time a score makes `statistics`, which are averaged over
the init times, and `value` makes the score of the averages. Most scores need nothing of this but a formula.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

from eval.chunks import Chunk
from eval.pairing import Comparison

Units = Literal["field", "squared", "none"]
Means = Mapping[str, np.ndarray]


class AreaSums(abc.ABC):
    """Area-weighted sums that are made together, one array of labels a field in `scores.nc`.

    Attributes:
        name: they are in the variable `<field>_<name>` of the sums, along the axis `<name>_moment`; empty for the field itself.
        weight: the label that the others are divided by for means; the field's own weight if None.
        along: the axis that they are made for each entry of: `region`, or `degree`, which has groups of its own in the file.
    """

    name: str
    weight: str | None = None
    along: str = "region"

    @property
    def axis(self) -> str:
        """Their axis in the file."""
        return f"{self.name}_moment" if self.name else "moment"

    def variable(self, field: str) -> str:
        """Their variable in the file."""
        return f"{field}_{self.name}" if self.name else field

    @abc.abstractmethod
    def labels(self, comparison: Comparison) -> tuple[str, ...]:
        """What is summed, in the order of the arrays."""

    def applies(self, comparison: Comparison, field: str, *, ensembles: bool) -> bool:
        """Whether the field has them; `ensembles` tells whether a system has more than one member."""
        return True

    def leads(self, comparison: Comparison) -> np.ndarray:
        """Positions of the lead times that have them."""
        return np.arange(comparison.leads.size)

    def size(self, comparison: Comparison) -> int:
        """Entries along the last axis."""
        return len(comparison.request.regions)

    @abc.abstractmethod
    def of(self, chunk: Chunk, system: str) -> np.ndarray:
        """The sums of a system, shape (label, l, v, r)."""


@dataclasses.dataclass(frozen=True)
class MapStyle:
    """How a map of a score is drawn.

    Attributes:
        colours: a colour map of matplotlib.
        ends: which ends of the colour bar are open: both, min, max or neither.
        limits: of the colours; None for those of the data.
        rank: the first three that a field has are shown at once, the others on request.
    """

    colours: str = "YlOrBr"
    ends: str = "max"
    limits: tuple[float | None, float | None] = (0.0, None)
    rank: int = 9


class Score:
    """A score. A new one is a subclass with `name`, `definition` and `needs`, and a line in `eval.scores.SCORES`.

    Its docstring is what the page says of it: a sentence or two for people who do not know it.

    Attributes:
        name: of the metric in files.
        title: of its section and in lists.
        definition: in a phrase, kept in files.
        units: the field's, their square, or none.
        best: the value of a perfect forecast; None if a value says nothing by itself.
        relative: whether differences are told in per cent.
        from_zero: whether axes start at 0.
        lines: values worth a line, such as the limit of a useful forecast.
        figures: of how many fields it is drawn against lead time.
        needs: labels of area sums, as means.
        averaged: statistics that are averaged over init times; `needs` if empty.
        scalars_only: whether a wind vector has none.
        known_only: whether it is in files only where some value is known.
        at_places: its definition on maps; empty if there are none.
        place_needs: sums at every point that maps need; `needs` if empty.
        map: how its maps are drawn; None if they are in the file alone.
    """

    name: str
    title: str = ""
    definition: str = ""
    units: Units = "field"
    best: float | None = 0.0
    relative: bool = True
    from_zero: bool = True
    lines: tuple[float, ...] = ()
    figures: int = 0
    needs: tuple[str, ...] = ()
    averaged: tuple[str, ...] = ()
    scalars_only: bool = False
    known_only: bool = False
    at_places: str = ""
    place_needs: tuple[str, ...] = ()
    map: MapStyle | None = None
    #: Sums of its own, if those of other scores do not do.
    sums: AreaSums | None = None

    @property
    def explanation(self) -> str:
        """What the page says of it."""
        return " ".join((type(self).__doc__ or self.definition).split())

    def statistics(self, means: Means) -> dict[str, np.ndarray]:
        """What is averaged over init times, from the area means of each."""
        return {name: means[name] for name in self.needs}

    def value(self, means: Means) -> np.ndarray:
        """The score, from averages of `statistics`."""
        return means[(self.averaged or self.needs)[0]]

    def pooled(self, means: Means) -> np.ndarray:
        """The score of WeatherBench 1, from means over space and init times together."""
        return self.value(self.statistics(means))

    def at_place(self, means: Means) -> np.ndarray:
        """The score of a point of the map, from means over init times there."""
        return self.value(self.statistics(means))


class PointwiseScore(Score, AreaSums):
    """A score that is the mean of a value at every point and init time, such as SEEPS: it makes its own sums.

    A subclass gives `values`.
    """

    vectors: bool = False

    def __init__(self) -> None:
        self.weight = f"{self.name}_weight"
        self.needs = (self.name,)
        self.sums = self

    @abc.abstractmethod
    def values(self, chunk: Chunk, system: str) -> np.ndarray:
        """At every point, shape (l, v, p), NaN where it is not defined; values at points that are masked do not count."""

    def labels(self, comparison: Comparison) -> tuple[str, ...]:
        """The weights of the points that count, and the values' sums."""
        return (f"{self.name}_weight", self.name)

    def applies(self, comparison: Comparison, field: str, *, ensembles: bool) -> bool:
        """Of all fields, of wind vectors if `vectors`."""
        return self.vectors or field not in comparison.vectors

    def counted(self, chunk: Chunk, system: str) -> tuple[np.ndarray, np.ndarray]:
        """Which points count, and the values there, elsewhere 0: shape (l, v, p)."""
        values = self.values(chunk, system)
        used = np.isfinite(values) if chunk.mask is None else np.isfinite(values) & chunk.mask
        return used, np.where(used, values, 0.0)

    def of(self, chunk: Chunk, system: str) -> np.ndarray:
        """Weights and values."""
        columns = chunk.weights.columns
        return np.stack([each @ columns for each in self.counted(chunk, system)])
