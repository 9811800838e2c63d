"""Windows of a validation: only they are read, by each host its part, and none with a missing value."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import travelling_waves
from weather_scnn.training.channels import Channels
from weather_scnn.training.fixed_windows import FixedWindows
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.states import StateReader
from weather_scnn.training.windows import NoWindows

SIX = np.timedelta64(6, "h")
TIMES = np.datetime64("2001-01-01", "ns") + np.arange(60) * SIX


@pytest.fixture(scope="module")
def moments():
    return Normalisation(
        np.array([5.4e4, 1.43e4, 285.0]), np.array([1e3, 9e2, 6.0]), np.array([2e2, 2e2, 1.5]),
        np.array([8.0, 7.0]), np.array([2.0, 2.0]), np.array([0.3]), np.array([0.5]),
    )  # fmt: skip


@pytest.fixture
def reader_of(tmp_path, small_config, moments, small_grid):
    def open_reader(missing=()):
        dataset = travelling_waves(small_grid, TIMES)
        dataset["2m_temperature"][list(missing), 2, 3] = np.nan
        dataset.chunk({"time": 1}).to_zarr(tmp_path / "s.zarr", mode="w", zarr_format=2)
        return StateReader.open(str(tmp_path / "s.zarr"), Channels.from_config(small_config.data), moments, small_grid)

    return open_reader


def windows_of(reader, *, length=3, count=4, batch_size=2, **options):
    return FixedWindows(
        reader, step=SIX, length=length, input_steps=1, input_step=SIX, count=count, batch_size=batch_size,
        **({"cache_bytes": 1e9} | options),
    )  # fmt: skip


@pytest.fixture
def read(monkeypatch):
    """Times that were read, in order."""
    seen, original = [], StateReader.read_at

    def read_at(self, positions, **options):
        seen.extend(np.unique(positions).tolist())
        return original(self, positions, **options)

    monkeypatch.setattr(StateReader, "read_at", read_at)
    return seen


def test_windows_are_spread_evenly_and_nothing_else_is_read(reader_of, read):
    windows = windows_of(reader_of())
    assert windows.windows[:, 0].tolist() == [0, 19, 38, 57]
    expected = sorted({start + step for start in (0, 19, 38, 57) for step in range(3)})
    assert sorted(read) == expected
    for _ in range(3):
        [windows.batch(number) for number in range(windows.batches)]
    assert len(read) == len(expected)


def test_what_does_not_fit_is_read_again_and_is_the_same(reader_of, read):
    reader = reader_of()
    held, again = windows_of(reader), windows_of(reader, cache_bytes=1e3)
    assert held.in_memory and not again.in_memory
    read.clear()
    for number in range(2):
        for one, other in zip(held.batch(number), again.batch(number)):
            np.testing.assert_array_equal(one, other)
    assert len(read) == 12


def test_hosts_read_their_parts(reader_of, read):
    reader = reader_of()
    whole = windows_of(reader)
    read.clear()
    parts = [windows_of(reader, share=(host, 2)) for host in range(2)]
    assert len(read) == 12
    for number in range(2):
        joined = np.concatenate([part.batch(number).scalar for part in parts])
        np.testing.assert_array_equal(joined, whole.batch(number).scalar)


def test_a_missing_value_moves_a_window_on_every_host(reader_of):
    """One host alone reads the missing value; all hear of it, and choose alike."""
    reader = reader_of(missing=(20,))
    others: list[np.ndarray] = []

    def second_host(flags):
        # What the host with the other half of the batches found.
        other = np.ones_like(flags)
        other[20] = False
        others.append(flags)
        return np.stack([flags, other])

    whole, first = windows_of(reader), windows_of(reader, share=(0, 2), gather=second_host)
    assert 20 not in whole.windows and np.isfinite(whole.batch(0).scalar).all()
    np.testing.assert_array_equal(whole.windows, first.windows)


def test_a_period_of_missing_values_has_no_window(reader_of):
    with pytest.raises(NoWindows, match="no 3 consecutive states"):
        windows_of(reader_of(missing=range(1, 60, 2)))


def test_reading_never_touches_an_accelerator(small_config, small_statistics):
    """With a platform that is not there, any computation of JAX fails; batches are read all the same."""
    script = (
        "import sys, numpy as np\n"
        "from weather_scnn.training.channels import Channels, DataConfig\n"
        "from weather_scnn.training.loader import WindowLoader\n"
        "from weather_scnn.training.normalisation import Normalisation\n"
        "from weather_scnn.training.states import StateReader, expected_grid\n"
        "from weather_scnn.io.statistics import read_statistics\n"
        "names = 'geopotential', 'u_component_of_wind', 'v_component_of_wind'\n"
        "data = DataConfig(grid='16x8', level_variables=names, levels=(500, 850), static_variables=('land_sea_mask',))\n"
        "channels = Channels.from_config(data)\n"
        "moments = Normalisation.from_statistics(read_statistics(sys.argv[2]), channels)\n"
        "reader = StateReader.open(sys.argv[1], channels, moments, expected_grid(data))\n"
        "reader.statics()\n"
        "for cache in (0, 1e9):\n"
        "    loader = WindowLoader(reader, step=np.timedelta64(6, 'h'), input_steps=1, seed=0, cache_bytes=cache)\n"
        "    assert len(list(loader.stream(2, batch_size=4, first=0, last=3, readers=2))) == 3\n"
        "import jax\n"
        "try:\n    jax.numpy.zeros(1)\n"
        "except Exception:\n    print('no platform')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, small_config.data.path, small_statistics],
        env={**os.environ, "JAX_PLATFORMS": "cuda"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "no platform"
