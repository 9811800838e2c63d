"""What a `scores.nc` holds: the scores, and in groups of their own their intervals, differences, spectra and maps.

Files of earlier versions or of small jobs lack some groups; then the answers here are None.
"""

import dataclasses
from collections.abc import Mapping

import netCDF4
import numpy as np
import xarray as xr

from eval.score_reading import STATIONS, open_scores, scored_at_stations_alone
from eval.scorecard import Field, values

OPTIONAL_GROUPS = (
    "intervals", "differences", "spectra", "maps", "rank_histogram", "degree_scores", "degree_intervals", "event_curves",
)  # fmt: skip
# As large as the scores themselves, and asked for as often.
_SMALL = {"intervals", "differences", "event_curves"}


@dataclasses.dataclass(frozen=True)
class ScoreFile:
    """The scores of one job.

    Attributes:
        path: of the file.
        scores: the root: one variable a field, dims (system, metric, lead_time[, level], region).
        groups: the other groups there are, by name.
        root: group that these lie in: `/`, or that of stations where the file holds nothing else.
        stations: scores of groups of stations, and of every station, if there are any.
        opened: what lies on disk still, to be closed.
    """

    path: str
    scores: xr.Dataset
    groups: Mapping[str, xr.Dataset]
    root: str = "/"
    stations: tuple[xr.Dataset, xr.Dataset] | None = None
    opened: tuple[xr.Dataset, ...] = ()

    @classmethod
    def open(cls, path: str) -> "ScoreFile":
        """Reads a file into memory; maps stay on disk until they are asked for.

        Raises:
            UserError: the file does not exist or is not one of scores.
        """
        root = STATIONS if scored_at_stations_alone(path) else "/"
        scores = open_scores(path, group=root)
        with netCDF4.Dataset(path) as file:
            observed = STATIONS in file.groups
            present = [name for name in OPTIONAL_GROUPS if name in (file if root == "/" else file.groups[root]).groups]
        # Before others are left open: HDF5 2.2 crashes where a file is opened again and again while a group of it is open.
        stations = None
        if observed:
            stations = open_scores(path, group=STATIONS), open_scores(path, group=f"{STATIONS}/places")
        groups, opened = {}, []
        for name in sorted(present, key=lambda name: name not in _SMALL):
            group = f"{root}/{name}".lstrip("/")
            small = name in _SMALL or root != "/"
            dataset = (
                open_scores(path, group=group) if small else xr.open_dataset(path, group=group, decode_timedelta=True)
            )
            opened.append(dataset)
            # What a group shares with the root need not be written twice.
            shared = {key: scores[key] for key in scores.coords if key in dataset.dims and key not in dataset.coords}
            groups[name] = dataset.assign_coords(shared)
        return cls(path, scores, groups, root, stations, tuple(opened))

    def close(self) -> None:
        """Groups that lie on disk cannot be read any more; HDF5 would crash when the file is opened again beside them."""
        for dataset in self.opened:
            dataset.close()

    def interval(
        self, field: Field, metric: str, system: str, region: str
    ) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """Lower and upper bound of a score against lead time, each (lead_time,); None where there is none."""
        group = self.groups.get("intervals")
        if group is None or field.variable not in group:
            return None, None
        bounds = [values(group, field, metric, system, region, bound=bound) for bound in ("lower", "upper")]
        return (bounds[0], bounds[1]) if all(np.isfinite(bound).any() for bound in bounds) else (None, None)

    @property
    def confidence(self) -> float:
        """Of the intervals, such as 0.95."""
        group = self.groups.get("intervals")
        return 0.95 if group is None else float(group.attrs.get("confidence", 0.95))

    def significant(self, field: Field, metric: str, system: str, reference: str, region: str) -> np.ndarray | None:
        """Whether the interval of system minus reference leaves out 0, (lead_time,); None where there is none."""
        group = self.groups.get("differences")
        if group is None or field.variable not in group or reference not in group["reference_system"].values:
            return None
        lower, upper = (
            values(group, field, metric, system, region, reference_system=reference, statistic=bound)
            for bound in ("lower", "upper")
        )
        return (lower > 0) | (upper < 0) if np.isfinite(lower).any() else None
