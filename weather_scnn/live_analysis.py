"""From a weather service to what a command reads: a file of the fields asked for, or the states that a run starts from.

It stands beside the command line, for it joins what `io` fetches to what `pipelines` regrids for a run.
"""

import sys
from collections.abc import Sequence

import numpy as np

from pipelines.regrid import regrid
from weather_scnn.catalogue.level_numbers import Level
from weather_scnn.catalogue.naming import lookup
from weather_scnn.errors import UserError
from weather_scnn.forecasting.trained_run import TrainedRun
from weather_scnn.io.live_sources import LATEST, Fields, analysis_times, fetched, request_path
from weather_scnn.io.marks import COMPLETE, STATUS, store_attributes


def fields_of(name: str, variables: Sequence[str] | None, levels: Sequence[Level] | None) -> Fields:
    """What is to be fetched, of variables and levels as commands take them.

    Raises:
        UserError: no variables, or none of the levels that some of them need.
    """
    if not variables:
        raise UserError("holds more than one would fetch at once", where=name, remedy="name fields with --variables")
    known = {each: lookup(each) for each in variables}
    aloft = [each for each, variable in known.items() if variable is not None and variable.on_levels]
    if aloft and not levels:
        raise UserError(f"{aloft[0]} is on levels", where=name, remedy="name them with --levels, as in 500,850")
    return {each: levels or () if each in aloft else () for each in variables}


def analyses(
    name: str,
    variables: Sequence[str] | None,
    levels: Sequence[Level] | None,
    time: str | None,
    *,
    progress: bool = True,
) -> str:
    """A local GRIB file of these fields of a service, at a period A:B or, by default, at the newest time.

    Raises:
        UserError: see `fields_of` and `live_sources.fetched`.
    """
    fields = fields_of(name, variables, levels)
    times = analysis_times(name, time or LATEST)
    _tell(name, times)
    return fetched(name, times, fields, progress=progress)


def initial_states(name: str, init: str, runs: Sequence[TrainedRun]) -> tuple[str, str]:
    """A store of the states that forecasts begin from, on the runs' grid, and the initial times in it.

    It lies in the cache, so that a forecast that was interrupted finds it again.

    Args:
        name: of the service.
        init: `latest`, or FIRST:LAST[:STEP].
        runs: the forecasters.

    Raises:
        UserError: the service lacks what they need.
    """
    data, channels, grid = runs[0].config.data, runs[0].channels, runs[0].grid
    starts = analysis_times(name, init)
    step = data.input_interval
    times = np.unique(starts[:, None] - step * np.arange(data.input_steps))
    hours = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "h")
    if (hours % 6).any():
        raise UserError(
            f"the run needs states {data.input_step or data.step} apart, and analyses are of 00, 06, 12 and 18 UTC",
            where=name,
            remedy="begin from a store that holds them",
        )
    statics = channels.statics if any(run.statics is None for run in runs) else ()
    fields = fields_of(name, [*channels.variables, *statics], channels.levels)
    store = request_path(name, times, fields, grid=[grid.name, grid.kind.value]).with_suffix(".zarr")
    _tell(name, times)
    if (store_attributes(str(store)) or {}).get(STATUS) != COMPLETE:
        file = fetched(name, times, fields)
        regrid(
            file, str(store), grid, variables=list(fields), levels=channels.levels or None, no_beam=True, progress=False
        )  # fmt: skip
    if init.strip() != LATEST:
        return str(store), init
    return str(store), np.datetime_as_string(starts[0], "m")


def _tell(name: str, times: np.ndarray) -> None:
    ends = dict.fromkeys(np.datetime_as_string(each, "h") for each in (times.min(), times.max()))
    print(f"{name}: analyses of {' to '.join(ends)} ({times.size})", file=sys.stderr)
