"""A small world with a known climatology: smooth random anomalies that travel around the globe."""

import pathlib
import types

import numpy as np
import pytest
import xarray as xr

from weather_scnn.sphere.grid import Grid

GRID = Grid.equiangular(16, 8)
UNITS = {
    "geopotential": "m**2 s**-2",
    "u_component_of_wind": "m s**-1",
    "v_component_of_wind": "m s**-1",
    "2m_temperature": "K",
}
LEVELS = [500, 850]


def _coordinates() -> dict:
    return {"level": LEVELS, "latitude": GRID.latitude, "longitude": GRID.longitude}


def make_truth(days: int = 20, start: str = "2021-01-01", seed: int = 0) -> xr.Dataset:
    """Truth on 16x8, 6-hourly: seasonal mean plus travelling waves; land covers the eastern half."""
    times = np.datetime64(start, "ns") + np.arange(4 * days) * np.timedelta64(6, "h")
    rng = np.random.default_rng(seed)
    phase = np.arange(times.size)[:, None, None] * 0.21
    lon, lat = np.radians(GRID.longitude)[None, None, :], np.radians(GRID.latitude)[None, :, None]
    variables = {}
    for name, units in UNITS.items():
        fields = []
        for _ in LEVELS if name != "2m_temperature" else [0]:
            field = 10.0 * np.cos(lat) ** 2 + np.zeros((times.size, 1, 1))
            for wave in (1, 2, 3):
                size, shift = rng.normal(), rng.uniform(0, 6)
                field = field + size * np.cos(lat) ** wave * np.cos(wave * lon - phase * np.sqrt(wave) + shift)
            fields.append(field)
        array = np.stack(fields, axis=1).astype(np.float32)
        dims = ("time", "level", "latitude", "longitude")
        if name == "2m_temperature":
            array, dims = array[:, 0], ("time", "latitude", "longitude")
        variables[name] = xr.DataArray(array, dims=dims, attrs={"units": units, "long_name": name})
    land = np.broadcast_to((GRID.longitude > 180).astype(np.float32), GRID.shape).copy()
    variables["land_sea_mask"] = xr.DataArray(land, dims=("latitude", "longitude"), attrs={"units": "1"})
    return xr.Dataset(variables, coords={"time": times, **_coordinates()})


def make_forecast(
    truth: xr.Dataset, *, inits=slice(0, 24, 2), leads=8, noise: float = 0.05, seed: int = 1
) -> xr.Dataset:
    """A forecast that is the truth plus an error that grows with lead time; NaN-free only where truth goes on."""
    times = truth["time"].values[inits]
    timedeltas = np.arange(1, leads + 1) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    rng = np.random.default_rng(seed)
    parts = []
    for time in times:
        part = truth.drop_vars("land_sea_mask").reindex(time=time + timedeltas, method="nearest")
        parts.append(part.assign_coords(time=timedeltas).rename(time="prediction_timedelta"))
    forecast = xr.concat(parts, dim="time").assign_coords(time=times)
    for name, array in forecast.data_vars.items():
        lead = xr.DataArray(np.arange(1, leads + 1), dims="prediction_timedelta")
        error = noise * lead * xr.DataArray(rng.normal(size=array.shape), dims=array.dims)
        forecast[name] = (array + error).astype(np.float32).transpose(*array.dims).assign_attrs(array.attrs)
    return forecast


def make_climatology() -> xr.Dataset:
    """Climatology in the WeatherBench 2 layout: the seasonal mean of `make_truth`, the same on all days."""
    mean = 10.0 * np.cos(np.radians(GRID.latitude))[:, None] ** 2 + np.zeros(GRID.shape)
    variables = {}
    for name, units in UNITS.items():
        dims: tuple[str, ...] = ("hour", "dayofyear", "level", "latitude", "longitude")
        shape: tuple[int, ...] = (4, 366, 2, *GRID.shape)
        if name == "2m_temperature":
            dims, shape = (*dims[:2], *dims[3:]), (*shape[:2], *shape[3:])
        array = np.broadcast_to(mean, shape).astype(np.float32)
        variables[name] = xr.DataArray(array, dims=dims, attrs={"units": units})
    days = np.datetime64("2020-01-01") + np.arange(366)
    months = days.astype("datetime64[M]").astype(int) % 12 + 1
    day = (days - days.astype("datetime64[M]")).astype(int) + 1
    return xr.Dataset(
        variables,
        coords={
            "hour": [0, 6, 12, 18],
            "dayofyear": np.arange(1, 367),
            "month": ("dayofyear", months),
            "day": ("dayofyear", day),
            **_coordinates(),
        },
        attrs={"calendar": "month-day"},
    )


def write(dataset: xr.Dataset, path: pathlib.Path) -> str:
    """Writes a store with one chunk a time and returns its path."""
    chunks = {
        name: [1 if dim in ("time", "hour") else size for dim, size in array.sizes.items()]
        for name, array in dataset.data_vars.items()
    }
    dataset.to_zarr(path, encoding={name: {"chunks": size} for name, size in chunks.items()}, consolidated=False)
    return str(path)


@pytest.fixture(scope="session")
def make() -> types.SimpleNamespace:
    """Makers of the small world's parts, for tests that change them."""
    truths: dict[str, xr.Dataset] = {}

    def truth(start: str = "2021-01-01") -> xr.Dataset:
        if start not in truths:
            truths[start] = make_truth(start=start)
        return truths[start].copy(deep=True)

    return types.SimpleNamespace(truth=truth, forecast=make_forecast, climatology=make_climatology, write=write)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> dict[str, str]:
    """Paths of truth, forecast and climatology."""
    folder = tmp_path_factory.mktemp("world")
    truth = make_truth()
    return {
        "truth": write(truth, folder / "truth.zarr"),
        "forecast": write(make_forecast(truth), folder / "forecast.zarr"),
        "climatology": write(make_climatology(), folder / "clim.zarr"),
    }
