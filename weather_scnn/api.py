"""The stages from Python, on xarray objects: the same code as the commands, so the same numbers.

What comes in is a path of any source, or a dataset in memory or dask-backed in any layout that sources have; what goes
out is a dataset in the layout of the stores. Everything runs in threads of this process. For records that outgrow a
machine the commands are the way: they stream to stores, and go on after an interruption.
"""

import contextlib
import pathlib
import tempfile
from collections.abc import Mapping, Sequence

import xarray as xr

from eval.request import StationRequest
from weather_scnn.errors import UserError
from weather_scnn.io.datasets import open_dataset as _open
from weather_scnn.io.in_memory import address_of, taken_from_store, without_store
from weather_scnn.sphere.grid import Grid

Source = str | pathlib.Path | xr.Dataset


def _path_or_dataset(source: Source) -> str | xr.Dataset:
    return str(source) if isinstance(source, pathlib.Path) else source


Names = Sequence[str] | str
"""Several names, or one text with commas between them as on the command line."""


def _listed(names: Names | None) -> Sequence[str] | None:
    if not isinstance(names, str):
        return names
    return [name.strip() for name in names.split(",") if name.strip()]


def open_dataset(
    source: Source,
    *,
    variables: Names | None = None,
    levels: Sequence[float] | None = None,
    time: str | None = None,
    member: int | None = None,
) -> xr.Dataset:
    """Opens any source lazily as a canonical dataset.

    Args:
        source: Zarr store, netCDF or GRIB file, folder, glob or fsspec address, or a dataset in any of their layouts.
        variables: WeatherBench 2, CDS, ERA5, GFS or CMIP names, also separated by commas; default all.
        levels: hPa; default all.
        time: period "A:B", both ends included; default all.
        member: number of the ensemble member; default the first, with a warning.

    Returns:
        WeatherBench 2 names, SI units and float32; dimensions (time[, level], latitude, longitude), latitudes and times
        ascending, longitudes in [0, 360). The attribute `adjusted` says what was changed on the way.

    Raises:
        UserError: nothing is there, or it cannot be understood; the message says what to do.

    Example:
        >>> import numpy as np, xarray as xr, weather_scnn as ws
        >>> t2m = xr.DataArray(np.full((3, 4), 15.0), dims=("lat", "lon"), attrs={"units": "degC"})
        >>> places = {"lat": [60.0, 0.0, -60.0], "lon": [-180.0, -90.0, 0.0, 90.0]}
        >>> opened = ws.open_dataset(t2m.assign_coords(places).to_dataset(name="t2m"))
        >>> float(opened["2m_temperature"].sel(latitude=-60, longitude=270))
        288.1499938964844
    """
    with address_of(_path_or_dataset(source)) as address:
        return _open(address, variables=_listed(variables), levels=levels, time=time, member=member)


def regrid(
    source: Source,
    grid: str | Grid,
    *,
    method: str = "conservative",
    variables: Names | None = None,
    levels: Sequence[float] | None = None,
    interpolate_levels: bool = False,
    time: str | None = None,
    step: str | None = None,
    member: int | None = None,
    coverage: float = 0.5,
    winds: str = "vector",
) -> xr.Dataset:
    """A source on another grid, as `weather-scnn regrid` writes it.

    Args:
        source: as for `open_dataset`.
        grid: LONxLAT without poles, or a `Grid`.
        method, variables, levels, interpolate_levels, time, step, member, coverage, winds: see `pipelines.regrid.regrid`.

    Returns:
        The canonical dataset, in memory.

    Raises:
        UserError: the source or the options will not do.

    Example:
        >>> import numpy as np, xarray as xr, weather_scnn as ws
        >>> fine = ws.Grid.equiangular(72, 36)
        >>> warm = np.broadcast_to(273 + 30 * np.cos(np.radians(fine.latitude))[:, None], fine.shape)
        >>> t2m = xr.DataArray(warm, {"latitude": fine.latitude, "longitude": fine.longitude}, attrs={"units": "K"})
        >>> ws.regrid(t2m.to_dataset(name="2m_temperature"), "8x4")["2m_temperature"].values[:, 0].round(2)
        array([287.58, 300.27, 300.27, 287.58], dtype=float32)
    """
    from pipelines.regrid import regrid as job

    target = grid if isinstance(grid, Grid) else Grid.from_name(grid)
    with address_of(_path_or_dataset(source)) as address, _scratch() as folder:
        output = str(folder / "regridded.zarr")
        job(
            address, output, target, method=method, variables=_listed(variables), levels=levels,
            interpolate_levels=interpolate_levels, time=time, step=step, member=member, coverage=coverage, winds=winds,
            no_beam=True, progress=False,
        )  # fmt: skip
        return _described(taken_from_store(output), source)


def statistics(
    source: Source, *, time: str | None = None, step: str = "6h", variables: Names | None = None
) -> xr.Dataset:
    """Means and standard deviations of states and of increments over a step, as `weather-scnn stats` writes them.

    Args:
        source: as for `open_dataset`; read a part at a time, so a lazy one may be larger than memory.
        time: period "A:B": give the training years, for statistics that have seen the test years leak them.
        step: of the increments, such as 6h.
        variables: names; default all.

    Returns:
        Dimensions (statistic[, level]), float64; see `weather_scnn.io.statistics`.

    Raises:
        UserError: the period holds no data, or the step does not fit it.
    """
    from pipelines.statistics import compute_statistics
    from weather_scnn.io.statistics import read_statistics

    with address_of(_path_or_dataset(source)) as address, _scratch() as folder:
        output = str(folder / "statistics.nc")
        compute_statistics(
            address, output, time=time, step=step, variables=_listed(variables), no_beam=True, progress=False
        )  # fmt: skip
        return _described(without_store(read_statistics(output).load()), source)


def climatology(
    source: Source,
    *,
    time: str | None = None,
    window: int = 61,
    variables: Names | None = None,
    calendar: str = "month-day",
    quantiles: Sequence[float] = (),
) -> xr.Dataset:
    """The mean and spread of every hour and calendar day, as `weather-scnn climatology` writes them.

    Args:
        source: as for `open_dataset`; read a part at a time.
        time, window, variables, calendar, quantiles: see `pipelines.climatology.compute_climatology`.

    Returns:
        Dimensions (hour, dayofyear[, level], latitude, longitude), in memory; see `weather_scnn.io.climatology`.

    Raises:
        UserError: the period holds no data, or an option is out of range.
    """
    from pipelines.climatology import compute_climatology

    with address_of(_path_or_dataset(source)) as address, _scratch() as folder:
        output = str(folder / "climatology.zarr")
        compute_climatology(
            address, output, time=time, window=window, variables=_listed(variables), calendar=calendar,
            quantiles=quantiles, no_beam=True, progress=False,
        )  # fmt: skip
        return _described(taken_from_store(output), source)


def score(
    forecast: Source | Mapping[str, Source],
    truth: Source | None = None,
    *,
    stations: StationRequest | None = None,
    climatology: Source | None = None,
    baselines: Names = (),
    baseline_years: str | None = None,
    by_valid_time: Names = (),
    regions: Names | None = None,
    variables: Names | None = None,
    levels: Sequence[float] | None = None,
    init: str | None = None,
    grid: str | None = None,
    protocol: str | None = None,
    convention: str | None = None,
    maps: Names = (),
    spectra: Names = (),
    events: Names = (),
    neighbourhoods: Names = (),
    bootstrap: int = 1000,
    block: int | None = None,
    confidence: float = 0.95,
    allow_missing: bool = False,
) -> xr.Dataset:
    """Scores forecasts against the truth, as `weather-scnn score` does.

    Args:
        forecast: one forecast, called `model` in the scores, or several by name; paths, or datasets with dimensions
            (time, prediction_timedelta[, number][, level], latitude, longitude).
        truth: what verifies them; may be left out with `stations`.
        stations: observations that verify them, `eval.request.StationRequest("metar.csv", tolerance="30min")`.
        climatology: as `climatology` gives it; without it there is no ACC.
        baselines: persistence, climatology, weekly-climatology, probabilistic-climatology.
        baseline_years, by_valid_time, regions, variables, levels, init, grid, protocol, convention, maps, spectra,
            events, neighbourhoods, bootstrap, block, confidence, allow_missing: see `eval.scoring.score`.

    Returns:
        The scores as in the root of `scores.nc` (docs/scores.md): a variable a field, dimensions (system, metric,
        lead_time[, level], region). The other groups, such as `sums`, are in `result.scores.groups`, by name.

    Raises:
        UserError: nothing can be paired, or grids, units, variables or levels do not fit.
    """
    from eval.scoring import score as job
    from weather_scnn.xr import with_groups

    # A dataset is a mapping, too.
    several = isinstance(forecast, Mapping) and not isinstance(forecast, xr.Dataset)
    systems: dict[str, Source] = dict(forecast) if several else {"": forecast}  # type: ignore[arg-type, dict-item]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_scratch())

        def address(source: Source) -> str:
            return stack.enter_context(address_of(_path_or_dataset(source)))

        addresses = {name: address(source) for name, source in systems.items()}
        output = str(folder / "scores.nc")
        job(
            [f"{name}={path}" if name else path for name, path in addresses.items()], None if truth is None else address(truth), output,
            stations=stations, events=_listed(events) or (), neighbourhoods=_listed(neighbourhoods) or (),
            climatology=None if climatology is None else address(climatology), baselines=_listed(baselines) or (),
            baseline_years=baseline_years, by_valid_time=_listed(by_valid_time) or (), regions=_listed(regions),
            variables=_listed(variables),
            levels=levels, init=init, grid=grid, protocol=protocol, convention=convention,
            maps=_listed(maps) or (), spectra=_listed(spectra) or (),
            bootstrap=bootstrap, block=block, confidence=confidence, allow_missing=allow_missing, progress=False,
        )  # fmt: skip
        groups = {name: dataset.load() for name, dataset in xr.open_groups(output, decode_timedelta=True).items()}
        for dataset in groups.values():
            dataset.close()
    return with_groups(groups)


@contextlib.contextmanager
def _scratch():
    """A folder for what a job writes on the way to memory."""
    with tempfile.TemporaryDirectory(prefix="weather-scnn-") as folder:
        yield pathlib.Path(folder)


def _described(result: xr.Dataset, source: Source) -> xr.Dataset:
    """The result, which names a dataset in memory as such, not by the address that it had meanwhile."""
    if isinstance(source, xr.Dataset):
        result.attrs["source"] = str(source.encoding.get("source", "a dataset in memory"))
    return result


def load_forecaster(workdir: str | pathlib.Path, checkpoints: str | None = None):
    """A trained forecaster, ready to forecast; see `weather_scnn.forecasting.forecaster.Forecaster`.

    Args:
        workdir: folder of a run, local or an fsspec address.
        checkpoints: `last:N`, or steps of the run, `best_long_run` and workdirs of other runs with commas between; default the
            newest.

    Raises:
        UserError: there is no such checkpoint.
    """
    from weather_scnn.forecasting.forecaster import Forecaster

    return Forecaster.load(str(workdir), checkpoints)


__all__ = [
    "Source", "UserError", "climatology", "load_forecaster", "open_dataset", "regrid", "score", "statistics",
]  # fmt: skip
