"""The sun and the clock as inputs of the network: a few numbers a time from the host, whole fields on the device.

Of a time the fields need the sun's declination, distance and hour angle at Greenwich and the phases of the year and the
day. Those the host works out with calendars and in float64; all that depends on the place is worked out inside the compiled
step, for the two times of that step alone. At 0.25° a batch then brings 56 bytes a step where its fields are 41 MB, and
no angle larger than a turn is ever rounded to float32.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.physics.solar import (
    HALF_HOUR_ANGLE,
    SECONDS_PER_RADIAN,
    SOLAR_CONSTANT,
    lit_integral,
    solar_position,
    year_and_day_fraction,
)
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels

# One hour at the solar constant, J m⁻²: brings the forcing to order one.
_SOLAR_SCALE = SOLAR_CONSTANT * 3600.0


class Phases(NamedTuple):
    """What the forcings need to know of times, each (...).

    Attributes:
        sin_declination, cos_declination, nearness: of the sun half an hour before; nearness is (mean distance / distance)².
        noon: its hour angle at longitude 0 then, radians.
        sin_year, cos_year: of 2π times the part of the year that has passed.
        day: 2π times the part of the UTC day that has passed.
    """

    sin_declination: Float[Array, "..."]
    cos_declination: Float[Array, "..."]
    nearness: Float[Array, "..."]
    noon: Float[Array, "..."]
    sin_year: Float[Array, "..."]
    cos_year: Float[Array, "..."]
    day: Float[Array, "..."]

    @classmethod
    def of(cls, packed: Float[Array, "*b 7"]) -> "Phases":
        """From an array as `phases` gives it."""
        return cls(*jnp.moveaxis(packed, -1, 0))

    def packed(self) -> Float[Array, "*b 7"]:
        """One array, the inverse of `of`."""
        return jnp.stack(self, axis=-1)

    def turned(self, angle: Float[Array, ""] | float) -> "Phases":
        """Of a planet turned eastward by an angle in radians under the same names of longitudes."""
        return self._replace(noon=self.noon - angle, day=self.day - angle)

    def mirrored(self) -> "Phases":
        """Of the mirror image at the equator: the sun stands over the other hemisphere, half a year away."""
        return self._replace(sin_declination=-self.sin_declination, sin_year=-self.sin_year, cos_year=-self.cos_year)


#: Numbers a time.
PHASES = len(Phases._fields)


def phases(times: np.ndarray) -> Float[np.ndarray, "*t 7"]:
    """`Phases` of times (datetime64, UTC, any shape), packed, float32."""
    times = np.asarray(times).astype("datetime64[ns]")
    middle = times.ravel() - np.timedelta64(30, "m")
    declination, equation_of_time, nearness = solar_position(middle)
    noon = 2.0 * np.pi * year_and_day_fraction(middle)[1] - np.pi + equation_of_time
    year, day = (2.0 * np.pi * part for part in year_and_day_fraction(times.ravel()))
    found = Phases(np.sin(declination), np.cos(declination), nearness, noon, np.sin(year), np.cos(year), day)  # type: ignore[arg-type]
    return np.stack(found, axis=-1).reshape(*times.shape, PHASES).astype(np.float32)


def season(packed: Float[Array, "*b 7"]) -> Float[Array, "*b 2"]:
    """Sine and cosine of the part of the year that has passed, of times as `phases` gives them."""
    at = Phases.of(packed)
    return jnp.stack([at.sin_year, at.cos_year], axis=-1)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["sin_latitude", "cos_latitude", "longitude"],
    meta_fields=["solar", "clock"],
)
@dataclasses.dataclass(frozen=True)
class Forcings:
    """Makes the fields of forcings at any time.

    Attributes:
        sin_latitude, cos_latitude: of the rows, (y,).
        longitude: radians, (x,).
        solar, clock: which there are.
    """

    sin_latitude: Any
    cos_latitude: Any
    longitude: Any
    solar: bool
    clock: bool

    @classmethod
    def on(cls, grid: Grid, channels: Channels) -> "Forcings":
        """Of the channels' kinds, on a grid."""
        latitude, longitude = np.radians(grid.latitude), np.radians(grid.longitude)
        rows = np.sin(latitude), np.maximum(np.cos(latitude), 0.0)
        sines, cosines, columns = (jnp.asarray(each, jnp.float32) for each in (*rows, longitude))
        return cls(sines, cosines, columns, channels.solar, channels.clock)

    def __call__(self, packed: Float[Array, "*b 7"]) -> Float[Array, "*b y x f"]:
        """Solar radiation of the hour before, in hours at the solar constant; sines and cosines of year and local day.

        Args:
            packed: from `phases`.
        """
        rows, columns = self.sin_latitude.size, self.longitude.size
        at = Phases(*(each[..., None, None] for each in Phases.of(packed)))
        shape = (*packed.shape[:-1], rows, columns)
        fields = []
        if self.solar:
            integral = lit_integral(
                at.noon + self.longitude,
                HALF_HOUR_ANGLE,
                self.sin_latitude[:, None] * at.sin_declination,
                self.cos_latitude[:, None] * at.cos_declination,
                jnp,
            )
            fields.append(integral * at.nearness * (SOLAR_CONSTANT * SECONDS_PER_RADIAN / _SOLAR_SCALE))
        if self.clock:
            local = at.day + self.longitude
            fields += [at.sin_year, at.cos_year, jnp.sin(local), jnp.cos(local)]
        if not fields:
            return jnp.zeros((*shape, 0), packed.dtype)
        return jnp.stack([jnp.broadcast_to(field, shape) for field in fields], axis=-1)
