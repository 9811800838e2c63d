"""GRIB 1 and 2 by cfgrib: the hypercubes of a file, and the windows of its accumulations."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.addresses import GRIB_ENDINGS
from weather_scnn.io.filters import lacking_filter
from weather_scnn.io.plain_zarr import ChunkCache
from weather_scnn.io.stored_fields import stored_fields

if TYPE_CHECKING:
    from weather_scnn.io.grib_messages import MessageGrid

_TOTALS = ("accum",)
WINDOW = "accumulation_hours"
#: Value of it for totals that all run since the start of their forecast; see `running_totals`.
RUNNING = "since the start"
#: Attribute of a dataset of GRIB messages: the version of the data that they come from, such as 0001.
VERSION = "expver"
_HOURS_A_UNIT = {0: 1 / 60, 1: 1.0, 2: 24.0, 10: 3.0, 11: 6.0, 12: 12.0, 13: 1 / 3600}
# By the checksum of their description; cfgrib keeps the points in the same way.
_grids: dict[str, "MessageGrid | None"] = {}
# cfgrib does not tell messages of one time apart by these, nor grids by the order of their points.
_APART = ("md5GridSection", VERSION)
# Of the window of a total in GRIB 2.
_LENGTH, _LENGTH_UNIT = "lengthOfTimeRange", "indicatorOfUnitForTimeRange"


def _bad_grib(path: str, error: Exception) -> UserError:
    return lacking_filter(error, path) or UserError(
        f"cannot be read as GRIB ({type(error).__name__}: {error})",
        where=path,
        remedy="the file may be cut short: fetch it again",
    )


def recognised(path: str, start: bytes) -> bool:
    """By the first bytes, else by the ending."""
    return start.startswith(b"GRIB") or path.lower().endswith(GRIB_ENDINGS)


def opened(path: str, *, decode_timedelta: bool, cache: ChunkCache) -> list[xr.Dataset]:
    """Lazy datasets of a file, one a hypercube of its messages; totals have their window in `accumulation_hours`.

    Raises:
        UserError: cfgrib is missing, or the file is cut short.
    """
    try:
        import gribapi.errors
        from cfgrib.xarray_plugin import ECCODES_LOCK
    except (ImportError, RuntimeError) as error:
        raise UserError(
            "reading GRIB needs cfgrib and eccodes", where=path, remedy="pip install 'weather-scnn[grib]'"
        ) from error
    trouble = (OSError, EOFError, ValueError, KeyError, gribapi.errors.GribInternalError)
    try:
        with ECCODES_LOCK:  # ecCodes' switch for several fields in a message is one for the whole process
            datasets = list(_hypercubes(path))
            if any(array.attrs.get("GRIB_stepType") in _TOTALS for each in datasets for array in each.values()):
                _declare_windows(path, datasets)
    except trouble as error:
        raise _bad_grib(path, error) from error
    return [stored_fields(dataset) for dataset in datasets]


def _hypercubes(path: str) -> Iterator[xr.Dataset]:
    from cfgrib.cfmessage import COMPUTED_KEYS
    from cfgrib.dataset import DatasetBuildError, compute_index_keys, open_fileindex
    from cfgrib.messages import FileStream

    # An empty indexpath keeps cfgrib from writing an index beside the source.
    keys = sorted({*compute_index_keys(), VERSION, "alternativeRowScanning", _LENGTH, _LENGTH_UNIT})
    whole = open_fileindex(FileStream(path, errors="raise"), "", keys, computed_keys=COMPUTED_KEYS)
    parts = [whole]
    for key in _APART:
        parts = [part.subindex({**part.filter_by_keys, key: value}) for part in parts for value in part[key]]
    for part in (each for apart in parts for each in _by_window(apart)):
        try:
            yield _hypercube(part)
        except DatasetBuildError:
            # Several hypercubes: differing level types, steps or members.
            for parameter in sorted(part["paramId"]):
                yield from _consistent(part.subindex({**part.filter_by_keys, "paramId": parameter}))


def _by_window(index: Any) -> Iterator[Any]:
    """The messages, parted by the length of totals where a parameter has totals of several lengths at one step.

    cfgrib tells them by the end of their window alone, and would read one for the other.
    """
    lengths: dict[tuple, set[Any]] = {}
    at, parameter = index.index_keys.index(_LENGTH), index.index_keys.index("paramId")
    for header, _ in index.field_ids_index:
        lengths.setdefault((header[parameter], *header[:at], *header[at + 1 :]), set()).add(header[at])
    clashing = {key[0] for key, found in lengths.items() if len(found) > 1}
    if not clashing:
        yield index
        return
    for param_id in sorted(index["paramId"]):
        part = index.subindex({**index.filter_by_keys, "paramId": param_id})
        windows = part[_LENGTH] if param_id in clashing else []
        yield from [part.subindex({**part.filter_by_keys, _LENGTH: length}) for length in windows] or [part]


def _consistent(index: Any) -> Iterator[xr.Dataset]:
    """Hypercubes of one parameter, parted by whatever cfgrib asks to have one value of."""
    from cfgrib.dataset import DatasetBuildError

    try:
        yield _hypercube(index)
    except DatasetBuildError as error:
        if len(error.args) < 3:
            raise
        for filters in error.args[2]:
            yield from _consistent(index.subindex(filters))


def _hypercube(index: Any) -> xr.Dataset:
    from cfgrib.dataset import open_from_index

    from weather_scnn.io.grib_messages import as_dataset, message_grid

    result = open_from_index(index, errors="raise", squeeze=False, encode_cf=("parameter", "time", "vertical"))
    attributes = next(each.attributes for each in result.variables.values() if "GRIB_gridType" in each.attributes)
    section = index["md5GridSection"][0]
    if section not in _grids or section == "undef":
        _grids[section] = message_grid(result.variables, attributes, index["alternativeRowScanning"][0] == 1)
    dataset = as_dataset(result.variables, result.attributes, _grids[section])
    if _LENGTH in index.filter_by_keys:
        hours = index.filter_by_keys[_LENGTH] * _HOURS_A_UNIT.get(index[_LENGTH_UNIT][0], 1.0)
        for array in dataset.values():
            array.attrs[WINDOW] = hours
    version = str(index[VERSION][0])
    return dataset if version == "undef" else dataset.assign_attrs({VERSION: version})


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
            if WINDOW in array.attrs:
                continue
            if array.attrs.get("GRIB_stepType") in _TOTALS and "GRIB_paramId" in array.attrs:
                result = lengths.get(int(array.attrs["GRIB_paramId"]), set())
                if len(result) == 1:
                    array.attrs[WINDOW] = next(iter(result))
                elif begins.get(int(array.attrs["GRIB_paramId"])) == {0.0} and _is_series(result):
                    array.attrs[WINDOW] = RUNNING
                elif result:
                    array.attrs[WINDOW] = "mixed"
                    array.attrs["accumulation_windows"] = ", ".join(f"{each:g}" for each in sorted(result))
