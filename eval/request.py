"""What a scoring job was asked for, and how its options read."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np

from eval.conventions import WEATHERBENCH2
from weather_scnn.catalogue.level_numbers import Level
from weather_scnn.errors import UserError
from weather_scnn.io.durations import parse_duration

_ZERO = ("0", "0h")
_NOT_DURATIONS = ("all", *_ZERO)


@dataclasses.dataclass(frozen=True)
class ScoringRequest:
    """What the user asked for; the same request gives the same comparison in every process."""

    forecasts: tuple[tuple[str, str], ...]
    truth: str
    climatology: str | None = None
    baselines: tuple[str, ...] = ()
    baseline_years: str | None = None
    by_valid_time: tuple[str, ...] = ()
    regions: tuple[str, ...] = ("global",)
    variables: tuple[str, ...] | None = None
    levels: tuple[Level, ...] | None = None
    init: str | None = None
    grid: str | None = None
    convention: str = WEATHERBENCH2
    maps: tuple[str, ...] = ()
    spectra: tuple[str, ...] = ()
    allow_missing: bool = False
    skip: tuple[int, ...] = ()

    def sources(self) -> dict[str, str | tuple[str, ...] | None]:
        """What is read, by option."""
        forecasts = tuple(path for _, path in self.forecasts)
        return {"--forecast": forecasts, "--truth": self.truth, "--climatology": self.climatology}

    def settings(self) -> str:
        """All but init times and forecasts' paths, as JSON: files that differ in it cannot be put together."""
        forecasts = [system for system, _ in self.forecasts]
        return json.dumps(
            {**dataclasses.asdict(self), "forecasts": forecasts, "init": None, "skip": None}, sort_keys=True
        )


def check_leads(texts: Sequence[str], option: str) -> None:
    """Refuses lead times that do not read as 24h, 5d or all, before anything is opened.

    Raises:
        UserError: one does not.
    """
    for text in texts:
        if text not in _NOT_DURATIONS:
            parse_duration(text, option)


def lead_positions(texts: Sequence[str], leads: np.ndarray, option: str) -> np.ndarray:
    """Positions of lead times written as 24h or 5d, or `all`.

    Raises:
        UserError: one is not a duration or not a lead time of the forecast.
    """
    if tuple(texts) == ("all",):
        return np.arange(leads.size)
    positions = []
    for text in texts:
        found = np.flatnonzero(leads == (np.timedelta64(0, "ns") if text in _ZERO else parse_duration(text, option)))
        if not found.size:
            hours = ", ".join(f"{hour:g}" for hour in leads / np.timedelta64(1, "h"))
            raise UserError(f"{option} names {text}, which is no lead time", remedy=f"choose from {hours} h, or all")
        positions.append(int(found[0]))
    return np.array(sorted(set(positions)), np.int64)
