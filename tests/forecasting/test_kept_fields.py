"""What is kept of forecasts: lead times, levels, regions, and fields made from states over several blocks of leads."""

import numpy as np
import pytest
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.forecasting.kept_fields import Kept
from weather_scnn.forecasting.lead_times import asked_leads
from weather_scnn.io.derived import derive
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels, DataConfig

STEP = np.timedelta64(6, "h").astype("timedelta64[ns]")
GRID = Grid.equiangular(16, 8)
CHANNELS = Channels.from_config(
    DataConfig(
        path="S.zarr",
        level_variables=("geopotential@500/1000", "temperature@850", "u_component_of_wind@850", "v_component_of_wind@850"),
        surface_variables=("2m_temperature", "total_precipitation_6hr", "10m_u_component_of_wind", "10m_v_component_of_wind"),
    )
)  # fmt: skip
STARTS = np.array(["2001-01-03T00", "2001-01-03T12"], "datetime64[ns]")


def hours(leads):
    return (leads / np.timedelta64(1, "h")).astype(int).tolist()


def settle(leads="6h:2d", **asked):
    return Kept.settle(CHANNELS, GRID, STEP, asked_leads(None, leads, STEP), **asked)


@pytest.fixture(scope="module")
def states():
    """Eight leads of two initial times and three members."""
    rng = np.random.default_rng(0)
    dims = ("time", "realization", "prediction_timedelta", "latitude", "longitude")
    fields = {}
    for name in CHANNELS.variables:
        on_levels = name in ("geopotential", "temperature", "u_component_of_wind", "v_component_of_wind")
        shape = (2, 3, 8, *((3,) if on_levels else ()), 8, 16)
        values = rng.random(shape).astype("float32")
        fields[name] = ((*dims[:3], *(("level",) if on_levels else ()), *dims[3:]), values)
    return xr.Dataset(fields)


def in_blocks(kept, states, size):
    """What is kept, made block by block."""
    leads, before, parts = STEP * np.arange(1, 9), None, []
    for begin in range(0, 8, size):
        block = slice(begin, begin + size)
        piece, before = kept.of_block(states.isel(prediction_timedelta=block), leads[block], STARTS, before)
        if piece.data_vars:
            parts.append(piece)
    return xr.concat(parts, "prediction_timedelta")


def test_lead_times_read_as_people_write_them():
    assert hours(asked_leads("2d", None, STEP)) == [6, 12, 18, 24, 30, 36, 42, 48]
    assert hours(asked_leads(None, "6h,1d:3d:1d", STEP)) == [6, 24, 48, 72]
    assert hours(asked_leads(None, "1d:2d, 12h,24h", STEP)) == [12, 24, 30, 36, 42, 48]
    assert hours(asked_leads(None, "1d:60h:1d", STEP)) == [24, 48]
    for lead, leads, message in (
        ("1d", "1d", "both --lead and --leads"), (None, None, "no lead time"), (None, ",", "no lead time"),
        (None, "6h,7h", "the lead 7h is no multiple of the forecaster's step 6h"),
        (None, "6h:12h:4h", "no multiple"), (None, "2d:1d", "no range"), (None, "6", "6 has no unit"),
        (None, "1d:2d:1d:1d", "no range"), ("3h", None, "no multiple"), (None, "six", "not a duration"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            asked_leads(lead, leads, STEP)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_totals_are_sums_over_leads_that_need_not_be_kept(size, states):
    kept = settle("12h,1d,42h", variables=["tp24", "t2m"])
    found = in_blocks(kept, states, size)
    assert list(found) == ["total_precipitation_24hr", "2m_temperature"]
    six = states["total_precipitation_6hr"].values
    expected = np.stack([np.full_like(six[:, :, 0], np.nan), six[:, :, :4].sum(2), six[:, :, 3:7].sum(2)], axis=2)
    np.testing.assert_allclose(found["total_precipitation_24hr"], expected, rtol=1e-6)
    np.testing.assert_array_equal(found["2m_temperature"], states["2m_temperature"].values[:, :, [1, 3, 6]])


def test_derived_fields_are_those_of_the_recipes_for_states(states):
    names = ["10m_wind_speed", "thickness_1000_500", "wind_speed", "vorticity"]
    found = in_blocks(settle("2d", derived=names), states, 8).isel(prediction_timedelta=0)
    state = states.isel(prediction_timedelta=7, realization=1, time=1).assign_coords(
        latitude=GRID.latitude, longitude=GRID.longitude, level=[500, 1000, 850]
    )
    expected = derive(state, names)
    for name in names:
        one = found[name].isel(realization=1, time=1)
        np.testing.assert_allclose(one, expected[name].transpose(*one.dims), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(
        found["thickness_1000_500"],
        (states["geopotential"].values[:, :, 7, 0] - states["geopotential"].values[:, :, 7, 1]) / 9.80665,
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip


def test_solar_radiation_is_of_the_valid_time(states):
    from weather_scnn.physics.solar import toa_incident_solar_radiation

    found = in_blocks(settle("1d:2d:1d", variables=["tisr"]), states, 4)["toa_incident_solar_radiation"]
    assert found.sizes["realization"] == 3 and found.sizes["prediction_timedelta"] == 2
    times = STARTS[1] + np.array([24, 48], "timedelta64[h]")
    expected = toa_incident_solar_radiation(times, GRID.latitude, GRID.longitude, accumulation_hours=1)
    np.testing.assert_allclose(found[1, 2], expected, rtol=1e-6)


def test_regions_run_eastwards_and_levels_are_those_asked_for(states):
    kept = settle("6h", variables=["z"], levels=[500], region="-50,0,30,60")
    np.testing.assert_allclose(kept.kept_longitude, [-45, -22.5, 0, 22.5])
    found = in_blocks(kept, states, 8)["geopotential"]
    assert found.dims == ("time", "realization", "prediction_timedelta", "level", "latitude", "longitude")
    rows, columns = (GRID.latitude >= 0) & (GRID.latitude <= 60), [14, 15, 0, 1]
    whole = states["geopotential"].values[:, :, :1, :1]
    np.testing.assert_array_equal(found, whole[..., rows, :][..., columns])
    assert settle(region="europe", variables=["t", "z"]).kept_levels == (500, 1000, 850)
    assert settle(variables=["t", "2t"]).kept_levels == (850,) and settle(variables=["2t"]).kept_levels == ()
    assert settle(region="0,-90,360,90").columns.size == 16
    np.testing.assert_allclose(settle(region="170,-90,-170,90").kept_longitude, [180])
    np.testing.assert_allclose(settle(region="150,-90,-150,90").kept_longitude, [157.5, 180, 202.5])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"variables": ["snowfal"]}, "has no variable snowfal, .*2m_temperature"),
        ({"variables": []}, "no variable is asked for"),
        ({"derived": ["2m_relative_humidity"]}, "2m_dewpoint_temperature is not there"),
        ({"derived": ["thickness_1000_850"]}, "thickness_1000_850 needs geopotential at 850 hPa"),
        ({"derived": ["total_precipitation_24hr"], "leads": "6h:18h"}, "the 24 h before it"),
        ({"derived": ["total_precipitation_3hr"]}, "needs totals over a shorter window"),
        ({"levels": [300]}, "has the level 300 hPa; choose from 500, 1000, 850"),
        ({"levels": [500], "variables": ["t2m"]}, "no variable asked for has levels"),
        ({"region": "1,1,2,2"}, "holds no point of the 16x8 grid"),
        ({"region": "extratropics"}, "is 2 boxes"),
        ({"region": "europa"}, "nearest: europe"),
        ({"region": "0,60,20,30"}, "do not lie from south to north"),
        ({"region": "0,x,20,30"}, "neither a name nor four edges"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_a_line(asked, message):
    with pytest.raises(UserError, match=message) as raised:
        settle(**asked)
    assert "\n" not in str(raised.value)
