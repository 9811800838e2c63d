"""Installs the wheel of a folder into a fresh environment outside the checkout and uses it: `make wheel-test`.

The light core alone is installed, so this also shows that it stands without the extras.
"""

import pathlib
import subprocess
import sys
import tempfile

USE = """
import importlib.resources, sys
import numpy as np, xarray as xr
import weather_scnn as ws
import configs, eval.scoring, pipelines.regrid

assert "site-packages" in ws.__file__, ws.__file__
assert (importlib.resources.files("eval.reporting") / "coastline_110m.json").is_file()
fine = ws.Grid.equiangular(24, 12)
field = np.broadcast_to(np.cos(np.radians(fine.latitude))[:, None], fine.shape).astype("float32")
t2m = xr.DataArray(280 + field, {"latitude": fine.latitude, "longitude": fine.longitude}, attrs={"units": "K"})
found = ws.regrid(t2m.to_dataset(name="2m_temperature"), "8x4")["2m_temperature"]
assert abs(float(ws.xr.area_mean(found)) - float(ws.xr.area_mean(t2m))) < 1e-4
assert not {"apache_beam", "dinosaur", "gcsfs"} & set(sys.modules)
t2m.to_dataset(name="2m_temperature").expand_dims(time=[np.datetime64("2020-01-01", "ns")]).to_netcdf("t2m.nc")
"""


def main(folder: pathlib.Path) -> None:
    """Fails with the status of the first step that fails."""
    wheel = sorted(folder.glob("*.whl"))[-1].resolve()
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        environment = place / "environment"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        uv = [pathlib.Path(sys.executable).parent / "uv", "pip"]
        python = environment / "bin" / "python"
        subprocess.run([*uv, "install", "--quiet", "--python", python, wheel], check=True, cwd=place)
        subprocess.run([*uv, "check", "--quiet", "--python", python], check=True, cwd=place)
        subprocess.run([python, "-c", USE], check=True, cwd=place)
        command = environment / "bin" / "weather-scnn"
        subprocess.run([command, "--version"], check=True, cwd=place)
        subprocess.run([command, "check", "--input", "t2m.nc"], check=True, cwd=place)
        refused = subprocess.run(
            [command, "simulate", "--output", "nature.zarr", "--days", "1"], cwd=place, capture_output=True, text=True
        )
        assert refused.returncode == 1 and "weather-scnn[pipelines]" in refused.stderr, refused
        found = list(environment.glob("lib/*/site-packages/weather_scnn-*.dist-info/licenses/LICENSE"))
        assert found and "Apache License" in found[0].read_text(), "the wheel holds no licence"
    print(f"{wheel.name}: installed, used and removed")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
