"""What a report is about: the scores, what is drawn of them, and against what."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from eval.reporting.report_folder import ReportFolder
from eval.reporting.score_file import ScoreFile
from eval.request import lead_positions
from eval.scorecard import Field, headline_fields, list_fields, main_system, reference_system
from weather_scnn.errors import UserError

# Of maps, if none are asked for: what forecasters look at first, at these hours where the scores have no maps.
_MAPPED = ("geopotential", "temperature", "2m_temperature", "mean_sea_level_pressure", "surface_pressure")
_MAP_FIELDS, _MAP_HOURS = 4, (24, 120, 240)
# Of the lead times that the scores have maps of, if they are many: the nearest to these.
_MOST_MAP_LEADS, _SOME_HOURS = 4, (24, 72, 120, 240)


def find_fields(wanted: Sequence[str], fields: Sequence[Field], where: str) -> list[Field]:
    """Fields asked for as `geopotential@500`, `geopotential` for all its levels, or `Z500`; in the order of `fields`.

    Raises:
        UserError: there is no such field.
    """
    found = set()
    for text in wanted:
        names = {
            field: {field.variable, field.short.lower()}
            | ({f"{field.variable}@{field.level}"} if field.level is not None else set())
            for field in fields
        }
        same = {field for field, known in names.items() if text.lower() in known}
        if not same:
            variables = dict.fromkeys(field.variable for field in fields)
            levels = sorted({field.level for field in fields if field.level is not None})
            at = f"; levels as in @{levels[len(levels) // 2]}: {', '.join(map(str, levels))}" if levels else ""
            raise UserError(f"has no field {text!r}", where=where, remedy=f"choose from {', '.join(variables)}{at}")
        found |= same
    return [field for field in fields if field in found]


@dataclasses.dataclass(frozen=True)
class Subject:
    """The subject of a report, given to each of its sections.

    Attributes:
        file: scores and what goes with them.
        output: where figures and tables go.
        tick: called once a figure, for the progress bar.
        fields: all scored fields, the most looked-at first.
        systems: all systems, in the order of the file, which fixes their colours.
        main: the system whose forecasts are shown.
        reference: the system that skill is measured against, if any.
        region: the region of curves and tables.
        asked_fields: the fields that figures are asked of; empty for those most looked at.
        asked_leads: the lead times that maps are asked of, timedelta64[ns]; None for those of the scores' maps.
    """

    file: ScoreFile
    output: ReportFolder
    tick: Callable[[], None]
    fields: list[Field]
    systems: list[str]
    main: str
    reference: str | None
    region: str
    asked_fields: list[Field]
    asked_leads: np.ndarray | None

    @classmethod
    def create(
        cls,
        file: ScoreFile,
        output: ReportFolder,
        tick: Callable[[], None],
        *,
        reference: str | None,
        region: str | None,
        fields: Sequence[str] = (),
        maps: Sequence[str] = (),
        forecast_leads: np.ndarray | None = None,
    ) -> "Subject":
        """Checks the choices.

        Args:
            file, output, tick: see the attributes.
            reference: the system that skill is measured against; None for the usual one.
            region: of curves and tables; None for the first.
            fields: that figures are asked of, such as `geopotential@500`.
            maps: lead times of maps, such as `24h` or `all`.
            forecast_leads: lead times of the forecast that is shown, if one is.

        Raises:
            UserError: the reference, the region, a field or a lead time is not there.
        """
        systems = [str(name) for name in file.scores["system"].values]
        regions = [str(name) for name in file.scores["region"].values]
        for kind, wanted, present in (("system", reference, systems), ("region", region, regions)):
            if wanted is not None and wanted not in present:
                raise UserError(
                    f"has no {kind} {wanted!r}", where=file.path, remedy="choose from " + ", ".join(present)
                )
        main, known = main_system(systems, reference), list_fields(file.scores)
        leads = None
        if maps:
            scored = file.groups["maps"]["lead_time"].values if "maps" in file.groups else None
            observed = None if file.stations is None else file.stations[1]["lead_time"].values
            held = [axis for axis in (forecast_leads, scored, observed) if axis is not None]
            if not held:
                raise UserError(
                    "holds no maps", where=file.path, remedy="score with --maps, or give --forecast and --truth here"
                )
            available = np.unique(np.concatenate(held))
            leads = available[lead_positions(maps, available, "--maps")]
        return cls(
            file, output, tick, known, systems, main, reference or reference_system(file.scores), region or regions[0],
            find_fields(fields, known, file.path), leads,
        )  # fmt: skip

    @property
    def scores(self) -> xr.Dataset:
        """The root of the file."""
        return self.file.scores

    @property
    def metrics(self) -> list[str]:
        """Metrics in the file."""
        return [str(name) for name in self.scores["metric"].values]

    @property
    def leads(self) -> np.ndarray:
        """Lead times, timedelta64[ns]."""
        return self.scores["lead_time"].values

    @property
    def hours(self) -> np.ndarray:
        """Lead times in hours."""
        return self.leads / np.timedelta64(1, "h")

    @property
    def scalar_fields(self) -> list[Field]:
        """Fields that can be drawn on a map: all but wind vectors."""
        return [field for field in self.fields if "wind_vector" not in field.variable]

    def drawn_fields(self, fields: Sequence[Field], count: int) -> list[Field]:
        """Of these fields those asked for, or if none is at most `count` of those most looked at."""
        if self.asked_fields:
            return [field for field in fields if field in self.asked_fields]
        return headline_fields(fields, count)

    def map_fields(self, fields: Sequence[Field]) -> list[Field]:
        """Of these fields those that get maps."""
        if self.asked_fields:
            return self.drawn_fields(fields, 0)
        return headline_fields(fields, _MAP_FIELDS, first=_MAPPED)

    def map_positions(self, leads: np.ndarray) -> list[int]:
        """Positions along an axis of lead times of those that get maps: those asked for, or the nearest to the usual."""
        if self.asked_leads is not None:
            return [int(position) for position in np.flatnonzero(np.isin(leads, self.asked_leads))]
        group = self.file.groups.get("maps")
        hours: Sequence[float] = _MAP_HOURS
        if group is not None:
            scored = group["lead_time"].values / np.timedelta64(1, "h")
            hours = scored.tolist() if scored.size <= _MOST_MAP_LEADS else _SOME_HOURS
        axis = leads / np.timedelta64(1, "h")
        return list(dict.fromkeys(int(np.abs(axis - hour).argmin()) for hour in hours))
