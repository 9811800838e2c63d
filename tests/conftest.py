"""Small stores that many tests share."""

import dataclasses
import functools
import gc
import os
import tempfile
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little, so they do without LLVM's expensive passes, and take a third of the processor's time.
# `make test-all` compiles as the commands do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# What is compiled once serves all processes of a test run: workers, and the commands that tests start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="weather_scnn_compiled_")
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": _compiled.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
# gcsfs asks a bucket's kind by gRPC first, and waits a minute for an emulator that speaks none.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

import jaxtyping
import numpy as np
import pytest
import xarray as xr

from weather_scnn.compiled_programs import compile_quickly
from weather_scnn.sphere import Grid

LEVELS = (500, 850)

# Before any of them meets a device, and for the processes that they start.
compile_quickly()

# JAX has XLA look for garbage at each collection of Python's; modules, which are now imported, are none.
gc.disable()


def pytest_collection_modifyitems(items):
    """The README's commands, two minutes in one test, come first, so that no worker waits for them at the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


def pytest_collection_finish():
    """What was imported stays; the garbage collector need not look through it, nor look every 700 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """What a test left open in a circle of references is closed by the next: some libraries open no file twice."""
    if gc.get_count()[0] > 5000:
        gc.collect(1)


def travelling_waves(grid: Grid, times: np.ndarray, *, seed: int = 0) -> xr.Dataset:
    """Smooth fields that drift eastward: predictable, and never the same twice. WeatherBench 2 layout."""
    rng = np.random.default_rng(seed)
    latitude, longitude = np.radians(grid.latitude), np.radians(grid.longitude)
    hours = (times - times[0]) / np.timedelta64(1, "h")

    def wave(speed: float) -> np.ndarray:
        total = np.zeros((len(times), *grid.shape))
        for order in (1, 2, 3):
            phase, amplitude = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.0)
            angle = order * (longitude - speed * hours[:, None]) + phase
            total += amplitude * np.cos(angle)[:, None, :] * (np.cos(latitude) ** order)[None, :, None]
        return total

    def field(means: tuple[float, ...], spread: float, units: str) -> xr.DataArray:
        layers = np.stack([mean + spread * wave(0.02 + 0.005 * index) for index, mean in enumerate(means)], axis=1)
        return xr.DataArray(
            layers.astype("float32"), dims=("time", "level", "latitude", "longitude"), attrs={"units": units}
        )

    dataset = xr.Dataset(
        {
            "geopotential": field((5.4e4, 1.43e4), 1e3, "m**2 s**-2"),
            "u_component_of_wind": field((5.0, 3.0), 8.0, "m s**-1"),
            "v_component_of_wind": field((0.0, 0.0), 8.0, "m s**-1"),
            "2m_temperature": (
                ("time", "latitude", "longitude"),
                (285 + 6 * wave(0.03)).astype("float32"),
                {"units": "K"},
            ),
            "land_sea_mask": (
                ("latitude", "longitude"),
                (rng.random(grid.shape) > 0.7).astype("float32"),
                {"units": "1"},
            ),
        },
        {
            "time": times.astype("datetime64[ns]"),
            "level": list(LEVELS),
            "latitude": ("latitude", grid.latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", grid.longitude, {"units": "degrees_east"}),
        },
    )
    return dataset


@pytest.fixture
def untyped():
    """Checks no types in this test: of a value of the wrong type, the words that a user sees are what counts."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def small_grid() -> Grid:
    return Grid.equiangular(16, 8)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory, small_grid) -> str:
    """12 days, 6-hourly, on 16x8, with one time missing on day 9."""
    times = np.datetime64("2001-01-01") + np.arange(48) * np.timedelta64(6, "h")
    times = np.delete(times, 34)
    path = str(tmp_path_factory.mktemp("stores") / "waves.zarr")
    travelling_waves(small_grid, times).chunk({"time": 1}).to_zarr(path, consolidated=True, zarr_format=2)
    return path


@pytest.fixture(scope="session")
def drawing():
    """Makes trainings of tests quick; gives the context in which they draw their curves, a second at each checkpoint.

    Experiments that differ only in what they read, write and tell have one step, traced and compiled once.
    """
    from weather_scnn.training import assembly, curves, step
    from weather_scnn.training.channels import DataConfig
    from weather_scnn.training.configuration import Config, TrainingConfig
    from weather_scnn.training.configuration_reading import HARMLESS

    make = functools.lru_cache(maxsize=12)(step.make_train_step.__wrapped__)
    compiled_in = {"training.remat", "training.mesh.model", "training.mesh.ensemble"}
    told = {"training.on_divergence", "training.start_from", "training.start_with", "data.train"}
    names = [name.split(".") for name in (*HARMLESS, *told) if name not in compiled_in]

    def shared(graph, config: Config, **options):
        usual = {"data": DataConfig(), "training": TrainingConfig()}
        changes = {part: {name: getattr(usual[part], name) for own, name in names if own == part} for part in usual}
        plain = {part: dataclasses.replace(getattr(config, part), **changes[part]) for part in usual}
        return make(graph, dataclasses.replace(config, **plain), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "make_train_step", shared)
        draw = curves.draw_curves
        patch.setattr(curves, "draw_curves", lambda workdir: None)
        yield lambda: mock.patch.object(curves, "draw_curves", draw)


@pytest.fixture(scope="session")
def small_config(small_store, drawing):
    """A tiny experiment on `small_store`."""
    from weather_scnn.models import ModelConfig
    from weather_scnn.training.channels import DataConfig
    from weather_scnn.training.configuration import Config, OptimiserConfig, Stage, TrainingConfig

    return Config(
        data=DataConfig(
            path=small_store,
            grid="16x8",
            level_variables=("geopotential", "u_component_of_wind", "v_component_of_wind"),
            levels=(500, 850),
            surface_variables=("2m_temperature",),
            static_variables=("land_sea_mask",),
        ),
        model=ModelConfig(scalar_channels=6, vector_channels=4, blocks=1, filter_parameters=4),
        optimiser=OptimiserConfig(learning_rate=1e-2, warmup_steps=3),
        training=TrainingConfig(
            batch_size=4, stages=(Stage(6, 1), Stage(4, 2)), log_every=2, checkpoint_every=5, keep_checkpoints=10
        ),
    )


@pytest.fixture(scope="session")
def small_statistics(small_store, tmp_path_factory) -> str:
    from pipelines.statistics import compute_statistics

    path = str(tmp_path_factory.mktemp("statistics") / "stats.nc")
    compute_statistics(small_store, path, time=None, step="6h", no_beam=True, progress=False)
    return path


@pytest.fixture(scope="session")
def whole_run(small_config, small_statistics, drawing, tmp_path_factory):
    """(workdir, last state) of an uninterrupted run with validation."""
    from weather_scnn.training.loop import train

    workdir = tmp_path_factory.mktemp("whole")
    config = dataclasses.replace(small_config, data=dataclasses.replace(small_config.data, validation="2001-01-01"))
    config = dataclasses.replace(
        config, training=dataclasses.replace(config.training, validation_days=(0.25, 0.5), validation_windows=4)
    )
    with drawing():
        return workdir, train(config, workdir, statistics=small_statistics, progress=False)
