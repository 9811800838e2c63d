"""What a report is about: the scores, what is drawn of them, and against what."""

import dataclasses
from collections.abc import Callable

import numpy as np
import xarray as xr

from eval.reporting.report_folder import ReportFolder
from eval.reporting.score_file import ScoreFile
from eval.scorecard import Field, list_fields, main_system, reference_system
from weather_scnn.errors import UserError


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
    """

    file: ScoreFile
    output: ReportFolder
    tick: Callable[[], None]
    fields: list[Field]
    systems: list[str]
    main: str
    reference: str | None
    region: str

    @classmethod
    def create(
        cls,
        file: ScoreFile,
        output: ReportFolder,
        tick: Callable[[], None],
        *,
        reference: str | None,
        region: str | None,
    ) -> "Subject":
        """Checks the choices.

        Raises:
            UserError: the reference or the region is not in the file.
        """
        systems = [str(name) for name in file.scores["system"].values]
        regions = [str(name) for name in file.scores["region"].values]
        for kind, wanted, present in (("system", reference, systems), ("region", region, regions)):
            if wanted is not None and wanted not in present:
                raise UserError(
                    f"has no {kind} {wanted!r}", where=file.path, remedy="choose from " + ", ".join(present)
                )
        main = main_system(systems, reference)
        return cls(
            file, output, tick, list_fields(file.scores), systems, main,
            reference or reference_system(file.scores), region or regions[0],
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
