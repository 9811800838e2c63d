"""The commands of docs/ensembles.md run, in order, on a small store and small networks."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
import xarray as xr

ROOT = pathlib.Path(__file__).parents[1]
SMALLER = [
    "data.grid=16x8", "data.level_variables=geopotential,u_component_of_wind,v_component_of_wind", "data.levels=500,850",
    "data.surface_variables=2m_temperature", "data.static_variables=land_sea_mask", "model.scalar_channels=4",
    "model.vector_channels=2", "model.blocks=1", "training.batch_size=8", "training.stages=2x1",
]  # fmt: skip
SHORTER = {"--lead 10d": "--lead 18h", "--members 8": "--members 2", "--devices 8": "--devices 2"}


@pytest.mark.slow
def test_every_command_runs(small_store, tmp_path):
    from pipelines.climatology import compute_climatology

    compute_climatology(small_store, str(tmp_path / "climatology.zarr"), time=None, progress=False)
    (tmp_path / "era5.zarr").symlink_to(small_store)
    environment = {
        **os.environ,
        "TRAINING": "2001-01-01:2001-01-07",
        "TEST": "2001-01-04:2001-01-05:12h",
        "JAX_PLATFORMS": "cpu",
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "ensembles.md").read_text(), flags=re.DOTALL)
    ran = []
    for line in (line for block in blocks for line in block.splitlines()):
        shorter = line
        for long, short in SHORTER.items():
            shorter = shorter.replace(long, short)
        if "--config" in line:
            shorter += "".join(f" --set {setting}" for setting in SMALLER)
        done = subprocess.run(["bash", "-euc", shorter], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        ran.append(line.split()[1])
    assert ran == "train plan train forecast forecast score".split()
    scores = xr.open_dataset(tmp_path / "ensembles.nc")
    assert {"ensemble", "both"} <= set(scores["system"].values)
