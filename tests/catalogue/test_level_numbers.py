"""Levels of a fraction of a hectopascal go where whole ones go; whole ones are ints and are called as before."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eval.scorecard import list_fields
from weather_scnn.catalogue.field_names import split_levels
from weather_scnn.commands.options import pressure_levels
from weather_scnn.errors import UserError
from weather_scnn.forecasting.forecast_store import forecast_template
from weather_scnn.forecasting.kept_fields import Kept
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.configuration import Config, LossConfig
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.loss import channel_weights
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.states import StateReader

GRID = Grid.from_name("8x4")
LEVELS = (0.4, 1.5, 500)
FIELDS = ("temperature@0.4/500", "u_component_of_wind@1.5", "v_component_of_wind@1.5")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    times = pd.date_range("2020-01-01", periods=3, freq="6h")
    data = np.broadcast_to(np.asarray(LEVELS, "f4")[None, :, None, None], (3, 3, 4, 8))
    fields = {
        name: (
            ("time", "level", "latitude", "longitude"),
            0.1 * data + 200 if units == "K" else 0.1 * data + number,
            {"units": units},
        )
        for number, (name, units) in enumerate(
            {"temperature": "K", "u_component_of_wind": "m s-1", "v_component_of_wind": "m s-1"}.items()
        )
    }
    # As float32 a level of 0.4 is 0.4000000059…
    coords = {"level": ("level", np.asarray(LEVELS, "f4"), {"units": "hPa"}), "time": times}
    path = str(tmp_path_factory.mktemp("levels") / "a.zarr")
    dataset = xr.Dataset(fields, coords | {"latitude": GRID.latitude, "longitude": GRID.longitude})
    dataset.to_zarr(path, consolidated=False)
    channels = Channels.from_config(DataConfig(level_variables=FIELDS, grid="8x4"))
    statistics = xr.Dataset(
        {
            name: (("statistic", "level"), np.ones((4, 3)) * (1 + np.arange(3.0)))
            for name in ("temperature", "u_component_of_wind", "v_component_of_wind")
        },
        {"statistic": ["mean", "std", "increment_mean", "increment_std"], "level": list(map(float, LEVELS))},
    )
    return StateReader.open(path, channels, Normalisation.from_statistics(statistics, channels), GRID)


def test_states_are_read_at_fractions_of_a_hectopascal(reader):
    assert reader.channels.levels == (0.4, 500, 1.5)
    assert reader.channels.describe() == ["temperature at 0.4 hPa", "temperature at 500 hPa", "wind at 1.5 hPa"]
    np.testing.assert_array_equal(reader.normalisation.scalar_mean, [1, 3])
    states = reader.read(0, 1)
    np.testing.assert_allclose(states.scalar[0, 0, 0], [(200.04 - 1) / 1, (250 - 3) / 3], rtol=1e-6)
    np.testing.assert_allclose(states.eastward[0, 0, 0] * reader.normalisation.wind_std, [1.15], rtol=1e-6)


def test_forecast_stores_have_them(reader):
    starts, leads = np.array(["2020-01-01"], "M8[ns]"), np.array([6], "m8[h]")
    kept = Kept.settle(reader.channels, GRID, leads[0], leads)
    store = forecast_template(reader, kept, starts, source="")
    np.testing.assert_array_equal(store["level"], [0.4, 500, 1.5])


def test_configurations_and_losses_name_them():
    assert split_levels("temperature@0.4/500") == ("temperature", (0.4, 500))
    assert split_levels("geopotential@500") == ("geopotential", (500,))
    for text in ("geopotential@", "geopotential@low", "geopotential@0", "geopotential@nan"):
        with pytest.raises(UserError, match=r"write it as geopotential@500"):
            split_levels(text)
    config = with_overrides(Config(), ["data.level_variables=temperature", "data.levels=0.4,500,1000.0"])
    assert config.data.levels == (0.4, 500, 1000) and [type(each) for each in config.data.levels] == [float, int, int]
    again = Config.from_json(json.loads(json.dumps(config.to_json())))
    assert again == config and [type(each) for each in again.data.levels] == [float, int, int]
    with pytest.raises(UserError, match=r"no value for data\.levels; give pressures in hPa"):
        with_overrides(Config(), ["data.levels=top"])
    channels = Channels.from_config(DataConfig(level_variables=("temperature",), levels=(0.4, 500.0)))
    assert channels.describe() == ["temperature at 0.4 hPa", "temperature at 500 hPa"]
    weights = channel_weights(channels, LossConfig(targets=("temperature@0.4",)))
    assert weights[0] > 0 and weights[1] == 0


def test_commands_and_scores_name_them():
    assert pressure_levels("0.4, 1.5,500") == [0.4, 1.5, 500] and type(pressure_levels("500")[0]) is int
    assert pressure_levels("1e1") == [10]
    for text in ("low", "0", "-500", "nan"):
        with pytest.raises(UserError, match="are not pressures"):
            pressure_levels(text)
    scores = xr.Dataset({"temperature": ("level", [1.0, 2.0])}, {"level": [0.4, 500.0]})
    fractional, whole = list_fields(scores)
    assert (fractional.label, fractional.short, fractional.slug) == ("Temperature 0.4 hPa", "T0.4", "temperature_0.4")
    assert (whole.label, whole.short, whole.slug) == ("Temperature 500 hPa", "T500", "temperature_500")
    assert float(fractional.of(scores)) == 1.0 and float(whole.of(scores)) == 2.0
