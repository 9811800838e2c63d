"""The sun: incident radiation at the top of the atmosphere, and the phases of the year and of the day.

Both are known for any time, so a forecaster is given them for the step to come (`training.forcings`). Everything is
NumPy float64 but `lit_integral`, which other arrays may pass through.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from weather_scnn.errors import UserError

# Nominal total solar irradiance at one astronomical unit, W m⁻² (IAU 2015 Resolution B3). ERA5's own follows the solar
# cycle within 0.07 % of it.
SOLAR_CONSTANT = 1361.0
#: Of the mean sun's turn.
SECONDS_PER_RADIAN = 86400.0 / (2.0 * np.pi)
#: The sun's turn in half an hour, radians.
HALF_HOUR_ANGLE = np.pi / 24.0
_J2000 = np.datetime64("2000-01-01T12:00:00", "ns")
_JULIAN_YEAR_NS = 365.25 * 86400e9


def year_and_day_fraction(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractions in [0, 1) of the calendar year and of the UTC day that have passed, shape (time,)."""
    times = np.atleast_1d(np.asarray(times)).astype("datetime64[ns]")
    year = times.astype("datetime64[Y]")
    length = ((year + 1).astype("datetime64[D]") - year.astype("datetime64[D]")).astype(np.float64)
    one_day = np.timedelta64(1, "D").astype("timedelta64[ns]")
    year_fraction = (times - year.astype("datetime64[ns]")) / one_day / length
    day_fraction = (times - times.astype("datetime64[D]").astype("datetime64[ns]")) / one_day
    return year_fraction, day_fraction


def solar_position(
    times: np.ndarray,
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Declination, equation of time and inverse squared distance of the sun, by the series of ECMWF's IFS.

    These are the functions RDS, RET and RRS of Julian years since J2000 in the IFS source (fctast.func.h), with which
    ERA5 was made. Against NREL's solar position algorithm they err, from 1940 to 2060, by at most 0.016° of declination,
    6.5e-4 of the inverse squared distance and 19 s of the equation of time, whose mean longitude turns with the sidereal
    year; the error is ERA5's own.

    Args:
        times: datetime64, UTC.

    Returns:
        Declination in radians; equation of time in radians of hour angle (apparent minus mean solar time);
        (mean distance / distance)². Each of shape (time,).
    """
    times = np.atleast_1d(np.asarray(times)).astype("datetime64[ns]")
    years = (times - _J2000).astype(np.float64) / _JULIAN_YEAR_NS
    anomaly = 1.7535 + 6.283076 * years  # REL
    mean_anomaly = 6.240041 + 6.283020 * years  # REM
    mean_longitude = 4.8951 + 6.283076 * years  # RLLS
    longitude = (
        4.8952
        + 6.283320 * years
        - 0.0075 * np.sin(anomaly)
        - 0.0326 * np.cos(anomaly)
        - 0.0003 * np.sin(2 * anomaly)
        + 0.0002 * np.cos(2 * anomaly)
    )
    declination = np.arcsin(np.sin(0.409093) * np.sin(longitude))
    equation_seconds = (
        591.8 * np.sin(2 * mean_longitude)
        - 459.4 * np.sin(mean_anomaly)
        + 39.5 * np.sin(mean_anomaly) * np.cos(2 * mean_longitude)
        - 12.7 * np.sin(4 * mean_longitude)
        - 4.8 * np.sin(2 * mean_anomaly)
    )
    distance = 1.0001 - 0.0163 * np.sin(anomaly) + 0.0037 * np.cos(anomaly)
    return declination, equation_seconds / SECONDS_PER_RADIAN, distance**-2.0


def lit_integral(hour_angle: Any, half_width: float, sine_part: Any, cosine_part: Any, xp: Any = np) -> Any:
    """∫ max(0, A + B cos h′) dh′ over hour angles from h − w to h + w, in closed form.

    Args:
        hour_angle: h in radians, any number of turns.
        half_width: w, at most half a turn.
        sine_part: A = sin φ sin δ.
        cosine_part: B = cos φ cos δ, not negative.
        xp: the arrays' module, `numpy` or `jax.numpy`; in float32 the error is about 1e-6.
    """
    ratio = -sine_part / xp.maximum(cosine_part, 1e-30)
    sunset = xp.arccos(xp.clip(ratio, -1.0, 1.0))
    whole_day = 2.0 * (sine_part * sunset + cosine_part * xp.sin(sunset))
    noon = hour_angle - 2.0 * np.pi * xp.round(hour_angle / (2.0 * np.pi))

    def from_noon(angle: Any) -> Any:
        turns = xp.floor((angle + np.pi) / (2.0 * np.pi))
        lit = xp.clip(angle - 2.0 * np.pi * turns, -sunset, sunset)
        return turns * whole_day + sine_part * lit + cosine_part * xp.sin(lit)

    return xp.maximum(from_noon(noon + half_width) - from_noon(noon - half_width), 0.0)


def toa_incident_solar_radiation(
    times: np.ndarray,
    latitude: Float[np.ndarray, " y"],
    longitude: Float[np.ndarray, " x"],
    accumulation_hours: float = 1.0,
) -> Float[np.ndarray, "t y x"]:
    """Incident solar radiation at the top of the atmosphere, accumulated as ERA5 does: over the time before.

    The cosine of the zenith angle, sin φ sin δ + cos φ cos δ cos h where it is positive, is integrated in closed form
    over hour angle; declination and distance are those of the middle of each hour (see `solar_position`), whose change within the hour is below 1e-4 of the daily mean.

    Args:
        times: datetime64, UTC, the end of each accumulation.
        latitude: degrees north.
        longitude: degrees east.
        accumulation_hours: length of the accumulation; 1 in ERA5.

    Returns:
        J m⁻², shape (time, latitude, longitude), float64.

    Raises:
        UserError: the accumulation is not positive.
    """
    if not accumulation_hours > 0:
        raise UserError(
            f"an accumulation of {accumulation_hours:g} hours is not positive", remedy="give hours above zero"
        )
    times = np.atleast_1d(np.asarray(times)).astype("datetime64[ns]")
    phi = np.radians(np.asarray(latitude, np.float64))[:, None]
    lambda_ = np.radians(np.asarray(longitude, np.float64))
    parts = int(np.ceil(accumulation_hours))
    hours = accumulation_hours / parts
    half_width = np.pi * hours / 24.0
    total = np.zeros((times.size, phi.size, lambda_.size))
    for part in range(parts):
        middle = times - np.timedelta64(round((part + 0.5) * hours * 3.6e12), "ns")
        declination, equation_of_time, factor = solar_position(middle)
        day_fraction = year_and_day_fraction(middle)[1]
        noon_angle = 2.0 * np.pi * day_fraction - np.pi + equation_of_time
        hour_angle = noon_angle[:, None, None] + lambda_
        delta = declination[:, None, None]
        sine_part, cosine_part = np.sin(phi) * np.sin(delta), np.maximum(np.cos(phi), 0.0) * np.cos(delta)
        integral = lit_integral(hour_angle, half_width, sine_part, cosine_part)
        total += SOLAR_CONSTANT * SECONDS_PER_RADIAN * factor[:, None, None] * integral
    return total
