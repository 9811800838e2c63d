"""What a new run is held against before any work: the store has what it needs, and the statistics are of its data."""

import contextlib
import logging
import re
from collections.abc import Iterator

import jax
import numpy as np
import pandas as pd
import xarray as xr
from etils import epath

from weather_scnn.errors import UserError
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.periods import parse_period
from weather_scnn.training.channels import Channels
from weather_scnn.training.configuration import Config
from weather_scnn.training.states import expected_grid, open_states
from weather_scnn.training.validation import long_enough, window_shape
from weather_scnn.training.windows import NoWindows, some_windows

_logger = logging.getLogger(__name__)
_TIME = r"\d{4,}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}"


@contextlib.contextmanager
def left_as_found(folder: epath.Path) -> Iterator[set[str]]:
    """Takes away again what came into a folder before a new run was refused, and the folder itself if it is new.

    Gives the names of what is to stay, to which more may be added.
    """
    kept = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    above = [each for each in (folder, *folder.parents) if "://" not in str(folder) and not each.exists()]
    try:
        yield kept
    except UserError:
        if jax.process_index() == 0 and folder.is_dir():
            for entry in folder.iterdir():
                if entry.name in kept:
                    continue
                if entry.is_dir():
                    entry.rmtree()
                else:
                    entry.unlink()
            for each in above:
                if not each.is_dir() or any(each.iterdir()):
                    break
                each.rmdir()
        raise


def check_store(config: Config) -> np.ndarray:
    """Times of the training period; refuses what the store lacks: fields, levels, grid, periods, states a step apart.

    Only coordinates are read.

    Raises:
        UserError: it lacks something.
    """
    data = config.data
    dataset = open_states(data.path, Channels.from_config(data), expected_grid(data)).fields
    times = dataset["time"].values.astype("datetime64[ns]")
    chosen = _within(times, data.train, "data.train", data.path)
    length = data.input_steps + max(stage.rollout_steps for stage in config.training.stages)
    step, input_step = parse_duration(data.step), data.input_interval
    try:
        some_windows(chosen, step=step, length=length, inputs=data.input_steps, input_step=input_step)
    except NoWindows as error:
        spacing = pd.Timedelta(np.diff(np.unique(chosen)).min()) if chosen.size > 1 else None
        apart = f"the store's times are {spacing / pd.Timedelta(hours=1):g} h apart: " if spacing is not None else ""
        raise UserError(f"{apart}{error.what}", where=data.path, remedy=error.remedy) from error
    if data.validation:
        watched = _within(times, data.validation, "data.validation", data.path)
        with long_enough(config):
            some_windows(watched, inputs=data.input_steps, **window_shape(config))
    return chosen


def _bounds(period: str, times: np.ndarray) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First and last moment of a period A:B; where an end is open, the whole day of the first or last of the times."""
    asked = parse_period(period) if period else slice(None, None)
    first = pd.Period(asked.start).start_time if asked.start else pd.Timestamp(times[0]).floor("D")
    last = pd.Period(asked.stop).end_time if asked.stop else pd.Timestamp(times[-1]).ceil("D") + pd.Timedelta("1D")
    return first, last


def _within(times: np.ndarray, period: str, setting: str, where: str) -> np.ndarray:
    """The times of a period; it may reach beyond them, which is said, but not lie outside."""
    first, last = _bounds(period, times)
    chosen = times[(times >= first.to_datetime64()) & (times <= last.to_datetime64())]
    held = f"{pd.Timestamp(times[0]):%Y-%m-%dT%H}:{pd.Timestamp(times[-1]):%Y-%m-%dT%H}"
    if not chosen.size:
        raise UserError(
            f"{setting} is {period}, and the store holds {held}", where=where, remedy=f"choose within {held}"
        )
    day = np.timedelta64(1, "D")
    if period and (times[0] > first.to_datetime64() + day or times[-1] < last.to_datetime64() - day):
        _logger.warning("%s is %s, but %s holds only %s", setting, period, where, held)
    return chosen


def check_statistics(statistics: xr.Dataset, config: Config, times: np.ndarray, *, where: str, remedy: str) -> None:
    """Refuses statistics of another step, or of a period that reaches outside of the training's.

    Statistics of a part of the training period are taken: a few years give the same moments. What lies outside of it
    may be what the forecaster is tested on, or another climate. Another grid changes moments little, so it is only told.

    Args:
        statistics: as `read_statistics` gives them.
        config: the experiment.
        times: of the training period in the store.
        where: the file.
        remedy: what to do about it.

    Raises:
        UserError: they do not fit.
    """
    data, found = config.data, statistics.attrs
    if "step" in found and parse_duration(str(found["step"])) != parse_duration(data.step):
        raise UserError(
            f"holds increments over {found['step']}, and data.step is {data.step}", where=where, remedy=remedy
        )
    period = re.fullmatch(rf"({_TIME}):({_TIME})", str(found.get("period", "")))
    if period:
        begin, end = (pd.Timestamp(each) for each in period.groups())
        first, last = _bounds(data.train, times)
        if begin < first or end > last:
            asked = f"data.train is {data.train}" if data.train else "the store trained on holds"
            held = "" if data.train else f" {pd.Timestamp(times[0]):%Y-%m-%dT%H}:{pd.Timestamp(times[-1]):%Y-%m-%dT%H}"
            raise UserError(
                f"holds statistics of {begin:%Y-%m-%dT%H}:{end:%Y-%m-%dT%H}, and {asked}{held}: they would know of times "
                "outside the training",
                where=where,
                remedy=remedy,
            )
    missing = [name for name, known in (("step", found.get("step")), ("period", period)) if not known]
    if missing:
        _logger.warning("%s does not say its %s, which is taken to be the training's", where, " and ".join(missing))
    names = [str(path).rstrip("/").rpartition("/")[2] for path in (found.get("source", data.path), data.path)]
    if names[0] != names[1]:
        _logger.warning("%s holds statistics of %s; training is on %s", where, found["source"], data.path)
    if found.get("grid", data.grid) != data.grid:
        _logger.warning("%s holds statistics on a grid of %s; training is on %s", where, found["grid"], data.grid)
