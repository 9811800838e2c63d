"""Random spectra, and float64 for tests that state exactness."""

import jax
import numpy as np
import pytest

from weather_scnn.sphere.layouts import made_for


@pytest.fixture
def x64():
    """Runs the test with 64-bit JAX types."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["cpu", "gpu"])
def each_layout(request):
    """Runs the test with the layouts of CPUs, then of GPUs and TPUs, for transforms that it makes."""
    with made_for(request.param):
        yield


@pytest.fixture
def random_spectrum():
    """A function that makes the spectrum of a random real field, without degrees below `least`."""
    rng = np.random.default_rng(7)

    def make(degrees, orders, channels=2, batch=(), least=0, dtype=np.float64):
        values = rng.normal(size=(*batch, degrees, orders, 2, channels))
        degree, order = np.arange(degrees)[:, None], np.arange(orders)
        values *= ((degree >= order) & (degree >= least))[..., None, None]
        values[..., 0, 1, :] = 0.0
        return values.astype(dtype)

    return make
