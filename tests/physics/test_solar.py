"""The sun against closed forms and almanac dates."""

import numpy as np
import pandas as pd
import pytest

from weather_scnn.errors import UserError
from weather_scnn.physics.solar import (
    SOLAR_CONSTANT,
    solar_position,
    toa_incident_solar_radiation,
)

LATITUDE = np.array([-90.0, -66.0, -23.0, 0.0, 45.0, 70.0, 90.0])


@pytest.mark.parametrize("day", ["2001-01-05", "2001-03-20", "2004-06-21", "2019-11-02"])
def test_day_sum_is_the_daily_mean_insolation(day):
    """Q = S₀ E/π (h₀ sin φ sin δ + cos φ cos δ sin h₀) times a day."""
    times = np.datetime64(day, "h") + np.arange(1, 25)
    ours = toa_incident_solar_radiation(times, LATITUDE, np.array([0.0, 137.0])).sum(0)
    declination, _, factor = (value[0] for value in solar_position(np.array([np.datetime64(day, "h") + 12])))
    phi = np.radians(LATITUDE)
    sunset = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    sines, cosines = np.sin(phi) * np.sin(declination), np.cos(phi) * np.cos(declination)
    expected = SOLAR_CONSTANT * factor / np.pi * (sunset * sines + cosines * np.sin(sunset)) * 86400
    # The noon declination stands for the whole day: at an equinox it moves by 0.2° until midnight, which a pole sees.
    np.testing.assert_allclose(ours, np.broadcast_to(expected[:, None], ours.shape), rtol=5e-3, atol=1.5e5)


def test_an_hour_equals_a_fine_sum_over_instants():
    time = np.datetime64("2003-09-10T07:00")
    longitude = np.arange(0.0, 360.0, 30.0)
    ours = toa_incident_solar_radiation(np.array([time]), LATITUDE, longitude)[0]
    seconds = np.arange(0.5, 3600.0)
    instants = time.astype("datetime64[ms]") - (seconds * 1000).astype("timedelta64[ms]")
    declination, equation, factor = (value[:, None, None] for value in solar_position(instants))
    hour = (instants - np.datetime64("2003-09-10")) / np.timedelta64(3600, "s")
    angle = np.pi * (hour / 12 - 1)[:, None, None] + np.radians(longitude) + equation
    phi = np.radians(LATITUDE)[:, None]
    zenith = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(angle)
    expected = (SOLAR_CONSTANT * factor * np.maximum(zenith, 0)).sum(0)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=250.0)  # of up to 4.9e6


def test_a_long_accumulation_is_the_sum_of_hours():
    times = np.datetime64("2000-02-29T00", "h") + np.arange(1, 7)
    longitude = np.array([10.0, 200.0])
    hourly = toa_incident_solar_radiation(times, LATITUDE, longitude).sum(0)
    six = toa_incident_solar_radiation(times[-1:], LATITUDE, longitude, accumulation_hours=6)[0]
    np.testing.assert_allclose(six, hourly, rtol=1e-12)


def test_declination_and_distance_at_known_dates():
    times = np.array(["2001-06-21T12", "2001-12-21T12", "2001-03-20T13", "2001-01-04", "2001-07-04"], "datetime64[h]")
    declination, equation, factor = solar_position(times)
    np.testing.assert_allclose(np.degrees(declination[:3]), [23.44, -23.44, 0.0], atol=0.5)
    np.testing.assert_allclose(1 / np.sqrt(factor[3:]), [0.9833, 1.0167], atol=5e-4)
    assert abs(np.degrees(equation).max()) < 5


def test_position_is_continuous_through_a_leap_year():
    times = np.datetime64("2000-12-20", "h") + np.arange(24 * 20)
    for value in solar_position(times):
        assert np.abs(np.diff(value)).max() < 3e-4


PLACES = [(-78.0, 12.0), (-33.0, 151.0), (0.0, 280.0), (51.5, 0.0), (80.0, 200.0)]
DATES = pd.date_range("1940-01-01", "2060-01-01", freq="3567h")


def test_position_is_that_of_an_independent_almanac():
    """NREL's solar position algorithm (Reda and Andreas 2004), as pvlib has it."""
    pvlib = pytest.importorskip("pvlib")
    declination, equation, factor = solar_position(DATES.values)
    distance = pvlib.solarposition.nrel_earthsun_distance(DATES.tz_localize("UTC")).values
    np.testing.assert_allclose(factor, distance**-2.0, rtol=8e-4)
    hour = (DATES - DATES.normalize()) / pd.Timedelta(hours=12) * np.pi - np.pi
    for latitude, longitude in PLACES:
        almanac = pvlib.solarposition.spa_python(DATES.tz_localize("UTC"), latitude, longitude)
        phi = np.radians(latitude)
        angle = hour + np.radians(longitude) + equation
        cosine = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(angle)
        # 19 s of hour angle in 1940 and 2060, 0.016° of declination
        np.testing.assert_allclose(cosine, np.cos(np.radians(almanac["zenith"])), atol=1.7e-3)


@pytest.mark.parametrize("hours", [1, 3, 6, 24])
def test_radiation_is_the_integral_of_an_independent_almanac(hours):
    pvlib = pytest.importorskip("pvlib")
    for end in ("1959-01-02T06", "1988-02-29T18", "2020-06-20T12", "2021-09-22T00"):
        minutes = pd.date_range(pd.Timestamp(end) - pd.Timedelta(hours=hours), end, freq="2min", tz="UTC")
        middles = minutes[:-1] + pd.Timedelta(minutes=1)
        flux = SOLAR_CONSTANT * pvlib.solarposition.nrel_earthsun_distance(middles).values ** -2.0
        for latitude, longitude in PLACES:
            zenith = pvlib.solarposition.spa_python(middles, latitude, longitude)["zenith"].values
            expected = float((flux * np.maximum(np.cos(np.radians(zenith)), 0)).sum() * 120)
            times = np.array([end], "datetime64[ns]")
            ours = toa_incident_solar_radiation(times, np.array([latitude]), np.array([longitude]), hours)
            # 0.07 % of the hour's largest, and twice that of what is there
            assert ours[0, 0, 0] == pytest.approx(expected, rel=1.5e-3, abs=3500 * hours)


def test_accumulation_must_be_positive():
    with pytest.raises(UserError, match="not positive"):
        toa_incident_solar_radiation(np.array(["2001-01-01"], "datetime64[h]"), LATITUDE, LATITUDE, 0)
