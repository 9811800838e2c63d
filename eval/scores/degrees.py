"""Scores of ensembles degree by degree: whether members have the truth's power, and spread where the errors are.

Shapes: n members, l lead times, v levels, y latitude, x longitude, d degrees of spherical harmonics.
"""

from typing import Any

import numpy as np

from eval.chunks import Chunk
from eval.pairing import Comparison
from eval.scores.base import AreaSums, Means, Score
from eval.scores.ensembles import Spread, SpreadSkillRatio
from eval.scores.errors import RMSE
from weather_scnn.sphere.field_spectra import degree_power, kinetic_energy


class DegreeSums(AreaSums):
    """Power per degree of truth and members, of the error of their mean, and their variance (over M − 1), at lead times of spectra.

    Of wind vectors kinetic energy. Fields that lack a point have none.
    """

    name, along = "by_degree", "degree"

    def labels(self, comparison: Comparison) -> tuple[str, ...]:
        return ("truth_power", "member_power", "error_power", "variance_power")

    def applies(self, comparison: Comparison, field: str, *, ensembles: bool) -> bool:
        return ensembles and comparison.spectrum_leads.size > 0

    def leads(self, comparison: Comparison) -> np.ndarray:
        return comparison.spectrum_leads

    def size(self, comparison: Comparison) -> int:
        return comparison.grid.maximum_degree + 1

    def of(self, chunk: Chunk, system: str) -> np.ndarray:
        comparison, parts = chunk.comparison, chunk.components
        shape = (4, chunk.leads.size, parts[0].truth.shape[1], self.size(comparison))
        sums = np.full(shape, np.nan)
        for number in range(chunk.leads.size) if chunk.mask is None else ():
            truth = [part.truth[number][None].astype(np.float64) for part in parts]
            held = [part.forecast(system) for part in parts]
            members = [each[0 if each.shape[0] == 1 else number].astype(np.float64) for each in held]
            usable = ~chunk.empty_levels(system)
            mean = [each.mean(axis=0, keepdims=True) for each in members]
            stacks = [np.concatenate([o, f - o, x, x - f]) for o, f, x in zip(truth, mean, members)]
            power = self._power([stack[:, usable] for stack in stacks], comparison)
            count = members[0].shape[0]
            variance = power[2 + count :].sum(axis=0) / (count - 1) if count > 1 else np.full(power[0].shape, np.nan)
            sums[:, number, usable] = [power[0], power[2 : 2 + count].mean(axis=0), power[1], variance]
        return sums

    def _power(self, fields: list[np.ndarray], comparison: Comparison) -> np.ndarray:
        """Of fields (n, v, p), of a wind both components: (n, v, d)."""
        shape = (-1, comparison.latitude.size, comparison.longitude.size)
        power: Any = degree_power if len(fields) == 1 else kinetic_energy
        return power(*(each.reshape(shape) for each in fields), comparison.grid).reshape(*fields[0].shape[:2], -1)


DEGREE_SUMS = DegreeSums()


class MemberPowerRatio(Score):
    """How much power members have at each scale, as a ratio to the truth: 1 is right, below 1 they are too smooth. The
    mean of members is smooth by construction, so it is not shown.
    """

    name, title = "member_power_ratio", "Power of members / truth"
    definition = "mean over init times and members of the power of a degree, over that of the truth"
    units, best, relative, from_zero, lines = "none", 1.0, False, False, (1.0,)
    needs = ("member_power", "truth_power")

    def value(self, means: Means) -> np.ndarray:
        return means["member_power"] / np.where(means["truth_power"] > 0, means["truth_power"], np.nan)


class DegreeSpread(Spread):
    """How far the members lie from their mean at a scale, as a standard deviation."""

    name, title, figures, needs = "degree_spread", "Spread per degree", 0, ("variance_power",)
    definition = "square root of the mean over init times of the variance of members in a degree, over M - 1"


class DegreeError(RMSE):
    """The RMSE of the mean over members at a scale."""

    name, title, figures, needs = "degree_rmse", "RMSE of the mean per degree", 0, ("error_power",)
    definition = "square root of the mean over init times of the power of the error of the ensemble mean in a degree"
    at_places, map = "", None


class DegreeSpreadSkill(SpreadSkillRatio):
    """Spread over the RMSE of the ensemble mean at each scale, allowing for the number of members: 1 is reliable, below 1
    the ensemble is too sure of itself at that scale.
    """

    name, title = "degree_spread_skill_ratio", "Spread / skill per degree"
    definition = "square root of the mean over init times of the variance of members in a degree times (M + 1) / M, over degree_rmse"
    needs, averaged = ("variance_power", "error_power", "members"), ("expected_error_power", "error_power")
