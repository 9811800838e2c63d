"""GRIB 1 and 2 by cfgrib: the hypercubes of a file, and the windows of its accumulations."""

import logging
from collections.abc import Iterator
from typing import Any

import xarray as xr

from weather_scnn.errors import UserError

# An empty indexpath keeps cfgrib from writing an index beside the source.
_OPTIONS: dict[str, Any] = {"indexpath": "", "squeeze": False, "errors": "raise"}
_TOTALS = ("accum",)
WINDOW = "accumulation_hours"
#: Value of it for totals that all run since the start of their forecast; see `running_totals`.
RUNNING = "since the start"
_HOURS_A_UNIT = {0: 1 / 60, 1: 1.0, 2: 24.0, 10: 3.0, 11: 6.0, 12: 12.0, 13: 1 / 3600}


def _bad_grib(path: str, error: Exception) -> UserError:
    return UserError(
        f"cannot be read as GRIB ({type(error).__name__}: {error})",
        where=path,
        remedy="the file may be cut short: fetch it again",
    )


def open_grib(path: str) -> list[xr.Dataset]:
    """Lazy datasets of a file, one a hypercube of its messages; totals have their window in `accumulation_hours`.

    Raises:
        UserError: cfgrib is missing, or the file is cut short.
    """
    try:
        import cfgrib
        import gribapi.errors
    except (ImportError, RuntimeError) as error:
        raise UserError(
            "reading GRIB needs cfgrib and eccodes", where=path, remedy="pip install 'weather-scnn[grib]'"
        ) from error
    trouble = (OSError, EOFError, ValueError, KeyError, gribapi.errors.GribInternalError)
    options: dict[str, Any] = {"chunks": None, "cache": False, "decode_timedelta": True}
    logger = logging.getLogger("cfgrib")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        try:
            datasets = [xr.open_dataset(path, engine="cfgrib", backend_kwargs=dict(_OPTIONS), **options)]
        except cfgrib.DatasetBuildError:
            # Several hypercubes in one file: differing level types, steps or members.
            from cfgrib.xarray_store import open_variable_datasets

            datasets = open_variable_datasets(path, backend_kwargs=_OPTIONS, **options)
        if any(array.attrs.get("GRIB_stepType") in _TOTALS for each in datasets for array in each.values()):
            _declare_windows(path, datasets)
    except trouble as error:
        raise _bad_grib(path, error) from error
    finally:
        logger.setLevel(level)
    return datasets


def _windows(path: str) -> Iterator[tuple[int, float, float]]:
    """(paramId, step at which it begins, hours) of every message that is a total."""
    import eccodes

    with open(path, "rb") as file:
        while (message := eccodes.codes_grib_new_from_file(file, headers_only=True)) is not None:
            try:
                if eccodes.codes_get(message, "stepType") in _TOTALS:
                    begin, end = (eccodes.codes_get_long(message, key) for key in ("startStep", "endStep"))
                    unit = _HOURS_A_UNIT.get(eccodes.codes_get_long(message, "stepUnits"), 1.0)
                    yield eccodes.codes_get_long(message, "paramId"), begin * unit, (end - begin) * unit
            finally:
                eccodes.codes_release(message)


def _is_series(hours: set[float]) -> bool:
    """Whether windows are those of a total read off at equal intervals, as ERA5-Land's are from 1 to 24 hours."""
    return len(hours) > 2 and sorted(hours) == [min(hours) * count for count in range(1, len(hours) + 1)]


def _declare_windows(path: str, datasets: list[xr.Dataset]) -> None:
    """Writes the length of each total into its attributes: ERA5 has hours, forecasts often all since their start."""
    lengths: dict[int, set[float]] = {}
    begins: dict[int, set[float]] = {}
    for param_id, begin, hours in _windows(path):
        if hours > 0:  # the empty total of step 0
            lengths.setdefault(param_id, set()).add(hours)
            begins.setdefault(param_id, set()).add(begin)
    for dataset in datasets:
        for array in dataset.values():
            if array.attrs.get("GRIB_stepType") in _TOTALS and "GRIB_paramId" in array.attrs:
                found = lengths.get(int(array.attrs["GRIB_paramId"]), set())
                if len(found) == 1:
                    array.attrs[WINDOW] = next(iter(found))
                elif begins.get(int(array.attrs["GRIB_paramId"])) == {0.0} and _is_series(found):
                    array.attrs[WINDOW] = RUNNING
                elif found:
                    array.attrs[WINDOW] = "mixed"
                    array.attrs["accumulation_windows"] = ", ".join(f"{each:g}" for each in sorted(found))
