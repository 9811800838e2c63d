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
_LATER = ("events", "neighbourhoods", "stations")


@dataclasses.dataclass(frozen=True)
class StationRequest:
    """How forecasts are held against observations at stations.

    Attributes:
        observations: path of the file, see `weather_scnn.io.observations`.
        method: `bilinear` or `nearest`, in space.
        tolerance: how far from a valid time an observation may be, such as `30min`; empty for not at all.
        lapse_rate: K m-1, by which 2 m temperatures are brought to the height of a station; None for the usual one where
            heights are known. One that is given is asked for: without heights it is an error.
        groups: columns of the file, or `elevation` for bands of height, whose entries get scores of their own.
    """

    observations: str
    method: str = "bilinear"
    tolerance: str = ""
    lapse_rate: float | None = None
    groups: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ScoringRequest:
    """What the user asked for; the same request gives the same comparison in every process.

    Without a `truth` there are `stations`, and what is scored is scored there alone.
    """

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
    events: tuple[str, ...] = ()
    neighbourhoods: tuple[str, ...] = ()
    stations: StationRequest | None = None
    allow_missing: bool = False
    skip: tuple[int, ...] = ()

    def sources(self) -> dict[str, str | tuple[str, ...] | None]:
        """What is read, by option."""
        forecasts = tuple(path for _, path in self.forecasts)
        observed = self.stations.observations if self.stations else None
        return {
            "--forecast": forecasts, "--truth": self.truth or None, "--climatology": self.climatology, "--observations": observed,
        }  # fmt: skip

    def settings(self) -> str:
        """All but init times and forecasts' paths, as JSON: files that differ in it cannot be put together."""
        forecasts = [system for system, _ in self.forecasts]
        held = {**dataclasses.asdict(self), "forecasts": forecasts, "init": None, "skip": None}
        if self.stations:
            held["stations"] = {**dataclasses.asdict(self.stations), "observations": None}
        # Options that came later are told only where they are used, so that older files can be added to.
        unused = [name for name in _LATER if not held[name]]
        return json.dumps({name: value for name, value in held.items() if name not in unused}, sort_keys=True)


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
