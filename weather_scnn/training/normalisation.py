"""Standardisation of the state: per channel for scalars, one factor and no mean for a wind, so that spin-1 holds."""

import dataclasses
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from weather_scnn.catalogue.level_numbers import Level
from weather_scnn.errors import UserError
from weather_scnn.training.channels import Channels


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """Moments per channel, float64.

    Attributes:
        scalar_mean, scalar_std: of the spin-0 channels, (c,).
        scalar_increment: standard deviation of their increments over a step, (c,).
        wind_std: root of the mean of (u² + v²)/2 of the spin-1 channels, (d,).
        wind_increment: the same of their increments, (d,).
        static_mean, static_std: of the static fields, (s,).
    """

    scalar_mean: Float[np.ndarray, " c"]
    scalar_std: Float[np.ndarray, " c"]
    scalar_increment: Float[np.ndarray, " c"]
    wind_std: Float[np.ndarray, " d"]
    wind_increment: Float[np.ndarray, " d"]
    static_mean: Float[np.ndarray, " s"]
    static_std: Float[np.ndarray, " s"]

    @classmethod
    def from_statistics(cls, statistics: xr.Dataset, channels: Channels, *, where: str = "") -> "Normalisation":
        """Picks a channel's moments from a statistics file.

        Raises:
            UserError: a variable, level or statistic is missing, or a channel never changes.
        """

        def pick(name: str, level: Level | None, statistic: str) -> float:
            if name not in statistics:
                held = ", ".join(map(str, statistics.data_vars))
                raise UserError(
                    f"has no {name}, only {held}", where=where, remedy="compute statistics with these variables"
                )
            array = statistics[name].sel(statistic=statistic)
            if level is not None:
                levels = np.atleast_1d(array["level"].values).tolist() if "level" in array.dims else []
                if level not in levels:
                    held = f"at {', '.join(f'{each:g}' for each in levels)} hPa" if levels else "without levels"
                    raise UserError(
                        f"has no {name} at {level} hPa, only {held}",
                        where=where,
                        remedy="compute statistics with these levels",
                    )
                array = array.sel(level=level)
            elif "level" in array.dims:
                raise UserError(
                    f"has {name} on levels, not without",
                    where=where,
                    remedy="compute statistics of the store trained on",
                )
            return float(array)

        def table(statistic: str) -> np.ndarray:
            return np.array([pick(name, level, statistic) for name, level in channels.scalars], np.float64)

        def wind(mean: str, std: str) -> np.ndarray:
            values = []
            for eastward, northward, level in channels.winds:
                squares = [pick(name, level, mean) ** 2 + pick(name, level, std) ** 2 for name in (eastward, northward)]
                values.append(np.sqrt(np.mean(squares)))
            return np.array(values, np.float64)

        result = cls(
            table("mean"),
            table("std"),
            table("increment_std"),
            wind("mean", "std"),
            wind("increment_mean", "increment_std"),
            np.array([pick(name, None, "mean") for name in channels.statics]),
            np.array([pick(name, None, "std") or 1.0 for name in channels.statics]),
        )
        names = channels.describe()
        spread = np.concatenate([result.scalar_std, result.wind_std])
        change = np.concatenate([result.scalar_increment, result.wind_increment])
        for name, one, other in zip(names, spread, change):
            if not (one > 0 and other > 0 and np.isfinite(one) and np.isfinite(other)):
                raise UserError(
                    f"{name} has standard deviation {one:g} and {other:g} of its increments; both must be positive",
                    where=where,
                    remedy="leave the variable out, or compute statistics over a longer period",
                )
        return result

    @property
    def scalar_ratio(self) -> Float[np.ndarray, " c"]:
        """Increment's over state's standard deviation."""
        return self.scalar_increment / self.scalar_std

    @property
    def wind_ratio(self) -> Float[np.ndarray, " d"]:
        """Increment's over state's standard deviation."""
        return self.wind_increment / self.wind_std

    def to_json(self) -> dict[str, Any]:
        """Plain lists, for a checkpoint."""
        return {key: value.tolist() for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Normalisation":
        """Inverse of `to_json`."""
        return cls(**{key: np.array(value, np.float64) for key, value in values.items()})
