"""The policy for missing values: those of the truth and of references are masked, those of forecasts are an error.

All systems are scored on the same points. Fields without missing values never come here.
"""

from typing import Any

import numpy as np

from eval.field_source import FieldSource
from eval.moments import moment_sums
from eval.piece_arrays import PieceArrays
from weather_scnn.errors import UserError

#: Valid points of the fields that had missing values, by (lead time, level).
Masked = dict[tuple[int, int], np.ndarray]


def mended_sums(
    scorer: FieldSource, block: Any, name: str, init: int, bad: np.ndarray, arrays: PieceArrays, row: int
) -> Masked:
    """Scores again, by mask, the fields of one init time in which something is missing, and counts what is.

    Args:
        scorer: of the piece.
        block: what is in memory.
        name: the variable.
        init: position of the init time in the comparison.
        bad: fields to mend, shape (lead time of the block, level).
        arrays: to fill.
        row: of the init time in the arrays.

    Raises:
        UserError: a forecast has missing values and they are not allowed.
    """
    comparison = scorer.comparison
    masked: Masked = {}
    for lead_in_block in np.flatnonzero(bad.any(axis=1)):
        lead = int(lead_in_block) + block.leads.start
        time = comparison.inits[init] + comparison.leads[lead]
        truth = scorer.truth_at(block, name, init, lead)
        normal = scorer.fields[name].normal(np.array([time]))
        fields = {system: scorer.field(block, system, name, init, lead) for system in comparison.systems}
        reference = np.isfinite(truth)
        if normal is not None:
            reference &= np.isfinite(normal[0])
        for system, field in fields.items():
            if system not in comparison.forecasts and field is not None:
                reference &= np.isfinite(field).all(axis=0)
        valid, lost = reference.copy(), np.zeros(truth.shape, bool)
        for system, field in fields.items():
            if system in comparison.forecasts and field is not None:
                absent = reference & ~np.isfinite(field).all(axis=0) & ~scorer.absent[system, name][:, None]
                if absent[bad[lead_in_block]].any() and not comparison.request.allow_missing:
                    _refuse(
                        int(absent.sum()),
                        name,
                        comparison.forecasts[system].path,
                        comparison.inits[init],
                        comparison.leads[lead],
                    )
                lost |= absent
        valid &= ~lost
        levels = np.flatnonzero(bad[lead_in_block])
        arrays.count_missing(name, row, lead, int((~reference[levels]).sum()), int(lost[levels].sum()))
        regions = comparison.weights.columns.T[:, None]
        for system, members in fields.items():
            if members is None:
                continue
            mean = members.mean(axis=0, dtype=np.float64)
            moments = moment_sums(
                mean[levels, None],
                truth[levels, None],
                None if normal is None else normal[0][levels, None],
                regions,
                valid[levels, None],
                anomalies=comparison.anomalies,
                pooled=comparison.pooled,
            )
            arrays.put_levels(name, system, row, lead, levels, moments)
            if system in scorer.ensembles:
                sums, ranks = scorer.ensemble_parts(name, members, truth, time, valid)
                arrays.put_ensemble(name, system, row, lead, sums, ranks)
        masked |= {(lead, int(level)): valid[level] for level in levels}
    return masked


def _refuse(count: int, name: str, path: str, init: np.datetime64, lead: np.timedelta64) -> None:
    raise UserError(
        f"{count} values of {name} are missing or infinite in the forecast from "
        f"{np.datetime_as_string(init, 'h')} at {int(lead // np.timedelta64(1, 'h'))} h",
        where=path,
        remedy="find out why, or add --allow-missing to score the other points",
    )
