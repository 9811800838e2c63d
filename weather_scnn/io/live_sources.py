"""Analyses of weather services, named in place of a path: fetched once, message by message, into a cache folder.

A service is a module of this package with `latest()`, the newest initial time, and `fetch(time, variable, levels)`, which
gives GRIB messages by level of those that the service has. Messages are files of their own in the cache, each there whole
or not at all: a download that was interrupted goes on with what is missing.
"""

import atexit
import contextlib
import functools
import hashlib
import importlib
import json
import logging
import pathlib
import re
import shutil
import tempfile
import time as clock
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import rich.progress

from weather_scnn.cache_folder import cache_folder
from weather_scnn.catalogue.level_numbers import Level
from weather_scnn.catalogue.naming import VARIABLES, find, lookup
from weather_scnn.errors import UserError
from weather_scnn.io.addresses import LIVE
from weather_scnn.io.atomic import whole_file, write_whole
from weather_scnn.io.derived import canonical_name, recipe
from weather_scnn.io.initial_times import initial_times, split_init
from weather_scnn.io.periods import parse_period
from weather_scnn.io.retry import read_again
from weather_scnn.progress import progress_bar

_logger = logging.getLogger(__name__)
#: Environment variable that names the cache folder; `off` keeps nothing after the command.
VARIABLE = "WEATHER_SCNN_DOWNLOADS"
#: What stands for the newest analysis in place of initial times.
LATEST = "latest"
_KEPT_DAYS = 14
_MOST_TIMES = 60
_OLD = np.timedelta64(24, "h")
_PAUSES_SECONDS = (1.0, 5.0, 20.0)
# A GRIB message begins with the one and ends with the other.
_HEAD, _TAIL = b"GRIB", b"7777"

#: Variables by canonical name, and the levels wanted of each in hPa; none of fields without levels.
Fields = Mapping[str, Sequence[Level]]


def analysis_times(name: str, init: str) -> np.ndarray:
    """Times of analyses: `latest`, or those of 00, 06, 12 and 18 UTC in FIRST:LAST[:STEP], datetime64[ns].

    Raises:
        UserError: there is none yet, the service cannot be reached, or it would be too many.
    """
    if init.strip() == LATEST:
        return _newest(name)
    bounds = parse_period(split_init(init)[0])
    if bounds.start is None or bounds.stop is None:
        raise UserError(f"{init!r} has no beginning or no end", where=name, remedy=f"give both, or {LATEST}")
    ends = pd.Period(bounds.start).start_time, pd.Period(bounds.stop).end_time
    every = pd.date_range(ends[0].ceil("6h"), ends[1], freq="6h").to_numpy().astype("datetime64[ns]")
    now = _now()
    if every.size and every[-1] > now - _OLD:
        every = every[every <= (_newest(name)[0] if every[0] <= now else now)]  # the last ones may not be out yet
    if not every.size:
        raise UserError(
            f"has no analysis in {init}", where=name, remedy="give a time of 00, 06, 12 or 18 UTC that has been"
        )
    times = initial_times(every, init, where=name)
    if times.size > _MOST_TIMES:
        raise UserError(
            f"{times.size} analyses in {init} are more than {_MOST_TIMES}", where=name, remedy="fetch some at a time"
        )
    return times


def _now() -> np.datetime64:
    return np.datetime64(pd.Timestamp.now("UTC").tz_localize(None))


def _newest(name: str) -> np.ndarray:
    newest = _again(_service(name).latest, name, "the newest analysis cannot be found")
    age = _now() - newest
    if age > _OLD:
        _logger.warning("%s: the newest analysis is %d hours old", name, age // np.timedelta64(1, "h"))
    return np.array([newest], "datetime64[ns]")


def fetched(name: str, times: np.ndarray, fields: Fields, *, progress: bool = True) -> str:
    """One GRIB file in the cache with these fields at these times; what is there already is not fetched again.

    Args:
        name: of the service.
        times: of the analyses, datetime64.
        fields: what is wanted; a derived field is made of its ingredients when the file is read.
        progress: whether to show a bar on standard error.

    Raises:
        UserError: the service lacks a field or a time, or cannot be reached after several tries.
    """
    folder = _cache() / name
    _tidy(folder)
    target = request_path(name, times, fields).with_suffix(".grib2")
    if target.exists():
        return str(target)
    wanted = [(time, variable, levels) for time in times for variable, levels in fields.items()]
    pieces: dict[pathlib.Path, None] = {}
    with progress_bar(rich.progress.MofNCompleteColumn(), enabled=progress) as bar:
        for time, variable, levels in bar.track(wanted, description=f"fetch {name}"):
            pieces |= dict.fromkeys(_pieces(name, time, canonical_name(variable), levels))
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as part, open(part, "wb") as file:
        written: set[bytes] = set()
        for piece in pieces:
            content = piece.read_bytes()
            # Services may pack both components of a wind into one message, which is then kept twice.
            if (digest := hashlib.sha256(content).digest()) not in written:
                file.write(content)
                written.add(digest)
    return str(target)


def request_path(name: str, times: np.ndarray, fields: Fields, **more: object) -> pathlib.Path:
    """Where what is made of these fields at these times is kept, without its ending."""
    spans = [np.datetime_as_string(each, "h").replace("-", "") for each in (times.min(), times.max())]
    about = [np.datetime_as_string(times, "m").tolist(), {key: list(fields[key]) for key in sorted(fields)}, more]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:10]
    return _cache() / name / "requests" / f"{'-'.join(dict.fromkeys(spans))}-{key}"


@functools.cache
def _temporary() -> pathlib.Path:
    folder = tempfile.mkdtemp(prefix="weather_scnn_downloads_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pathlib.Path(folder)


def _cache() -> pathlib.Path:
    return cache_folder(VARIABLE, "downloads") or _temporary()


def _service(name: str) -> ModuleType:
    return importlib.import_module(f"weather_scnn.io.{name.replace('-', '_')}")


def _again(read: Callable[[], Any], name: str, what: str) -> Any:
    return read_again(read, what=lambda: what, where=name, pauses=_PAUSES_SECONDS)


def _tidy(folder: pathlib.Path) -> None:
    """Removes what was fetched long ago."""
    oldest = clock.time() - _KEPT_DAYS * 86400
    for entry in [*folder.glob("*"), *folder.glob("requests/*")]:
        if entry.name == "requests" or not re.fullmatch(r"\d{8}T\d\d.*", entry.name):
            continue
        with contextlib.suppress(OSError):  # another command may tidy as well
            if entry.stat().st_mtime < oldest:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _pieces(
    name: str, time: np.datetime64, variable: str, levels: Sequence[Level], *, made: str = ""
) -> list[pathlib.Path]:
    """Files of the messages of one variable, of which another may be made, at one time; fetched where they are missing."""
    folder = _cache() / name / np.datetime_as_string(time, "h").replace("-", "")
    files = {level: folder / f"{variable}{f'@{level:g}' if level else ''}.grib2" for level in levels or (0,)}
    missing = [level for level, file in files.items() if not file.exists()]
    if not missing:
        return [*files.values()]
    at = np.datetime_as_string(time, "h")
    known = lookup(variable)
    found: dict[Level, bytes] = {}
    if known is not None:

        def fetch() -> dict[Level, bytes]:
            result = _service(name).fetch(time, known, missing if levels else [])
            if broken := [each for each in result.values() if not (each.startswith(_HEAD) and each.endswith(_TAIL))]:
                raise OSError(f"a message came incomplete, in {len(broken[0])} bytes")
            return result

        found = _again(fetch, name, f"{variable} of {at} cannot be fetched")
    if found:
        folder.mkdir(parents=True, exist_ok=True)
    for level, content in found.items():
        write_whole(files[level], content)
    if not (lacking := [level for level in missing if level not in found]):
        return [*files.values()]
    way = recipe(variable, [each.name for each in VARIABLES if each.name != variable]) if not found else None
    if way is not None:
        ingredients = {each: way.levels or levels if find(each).on_levels else () for each in way.inputs}
        return [piece for each, own in ingredients.items() for piece in _pieces(name, time, each, own, made=variable)]
    where = f" at {', '.join(f'{level:g}' for level in lacking)} hPa" if levels else ""
    where += f", of which {made} is made" if made else ""
    others = " or ".join(each for each in LIVE if each != name)
    raise UserError(
        f"the analysis of {at} has no {variable}{where}",
        where=name,
        remedy=f"try {others}, or begin from a store that holds it",
    )
