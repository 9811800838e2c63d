"""Jobs keep to the CPU: told by the environment of processes, and by where arrays lie among several devices."""

import json
import os
import subprocess
import sys

import pytest

from weather_scnn import job_platform
from weather_scnn.errors import UserError

# JAX is set up with several devices, of which the last is the default of the program, as an accelerator would be.
_SPECTRA = """
import os, sys
sys.path.insert(0, os.getcwd())
import jax, json, numpy as np
jax.config.update("jax_default_device", jax.devices()[3])
from weather_scnn.sphere import field_spectra as spectra
from pipelines.model_levels import _to_pressure
from weather_scnn.regridding.spectral import SpectralRegridder, _transform
from weather_scnn.io import derived
from weather_scnn.sphere.grid import Grid
grid, target = Grid.equiangular(16, 8), Grid.equiangular(8, 4)
fields = np.random.default_rng(0).normal(0, 1, (2, *grid.shape)).astype("float32")
SpectralRegridder(grid, target).vectors(fields, fields)
derived._spectral(fields, fields, grid=grid, which="vorticity")
spectra.kinetic_energy(fields, fields, grid)
_to_pressure(np.ones((*grid.shape, 3)), np.full(grid.shape, 1e5), np.zeros(3), np.array([0.1, 0.5, 1.0]), [500.0])
places = {str(device) for array in jax.live_arrays() for device in array.devices()}
print(json.dumps([sorted(places), str(jax.devices()[0]), len(jax.live_arrays()), str(jax.numpy.ones(1).devices())]))
"""


CLEARED = ("JAX_PLATFORMS", "XLA_PYTHON_CLIENT_PREALLOCATE", job_platform.VARIABLE)


def python(code, **environment):
    kept = {key: value for key, value in os.environ.items() if key not in CLEARED}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=kept | environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_arrays_of_jobs_lie_on_the_cpu_where_the_program_has_another_device():
    places, cpu, count, elsewhere = python(_SPECTRA, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="4")
    assert count > 0 and places == [cpu] and cpu not in elsewhere


_PLATFORMS = """
import json, os, sys
{before}
from weather_scnn.cli import app
from typer.testing import CliRunner
CliRunner().invoke(app, {arguments!r})
import jax
print(json.dumps([jax.config.jax_platforms, os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE")]))
"""


@pytest.mark.parametrize(
    ("arguments", "environment", "platform", "before"),
    [
        (["regrid", "--input", "no", "--output", "no.zarr"], {"JAX_PLATFORMS": "tpu,cpu"}, "cpu", "import jax"),
        pytest.param(
            ["stats", "--input", "no", "--output", "no.nc"],
            {job_platform.VARIABLE: "cuda"},
            "cuda",
            "",
            marks=pytest.mark.slow,
        ),
        (["train", "--config", "no.py", "--workdir", "no"], {"JAX_PLATFORMS": "tpu,cpu"}, "tpu,cpu", ""),
    ],
    ids=["not-what-training-has", "asked-for", "training"],
)
def test_the_platform_of_a_command(arguments, environment, platform, before):
    found, preallocates = python(_PLATFORMS.format(arguments=arguments, before=before), **environment)
    assert found == platform and preallocates == (None if arguments[0] == "train" else "false")


def test_a_worker_in_a_process_of_its_own_keeps_to_the_cpu():
    """The driver of this job is elsewhere, so this process stands for a worker's."""
    code = "import json, jax\nfrom pipelines import running\nwith running.work_item('elsewhere'): pass\n"
    assert python(code + "print(json.dumps(jax.config.jax_platforms))", JAX_PLATFORMS="tpu,cpu") == "cpu"


def test_a_platform_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv(job_platform.VARIABLE, "abacus")
    with pytest.raises(UserError, match=r"no platform 'abacus' here; leave it out, or set it to cpu"):
        with job_platform.job_device():
            pass
