"""How large a file of scores will be, told before the work."""

from eval.map_sums import LEFT_OPEN, map_metrics
from eval.pairing import Comparison
from eval.score_storage import LAYOUTS
from eval.scores import DEGREE_SUMS, scores_from, sums_of
from eval.uncertainty import STATISTICS

# Names, axes and attributes, and the scores themselves in full.
_BASE_BYTES = 400_000
_FULL = 6.0


def expected_bytes(comparison: Comparison, *, intervals: bool, further: int = 0) -> float:
    """Bytes of the file, within a third of it for fields without structure and some MB; smooth ones take less.

    Args:
        comparison: what is scored.
        intervals: whether intervals and differences are made.
        further: init times that are in the file already.
    """
    systems, leads = len(comparison.systems), comparison.leads.size
    fields = [*comparison.names, *(pair[0] for pair in comparison.vectors.values())]
    levels = sum(comparison.level_count(name) for name in fields)
    ensembles = any(comparison.members(system) > 1 for system in comparison.systems)
    kinds = {each.axis: each for name in fields for each in sums_of(comparison, name, ensembles=ensembles)}
    sums = {axis: each.labels(comparison) for axis, each in kinds.items() if each.along == "region"}
    moments = sum(map(len, sums.values()))
    metrics = len(scores_from({"members", *(label for labels in sums.values() for label in labels)}))
    scores = systems * leads * levels * len(comparison.request.regions)
    places = systems * comparison.map_leads.size * levels * comparison.latitude.size * comparison.longitude.size
    waves = comparison.longitude.size // 2 + 1 + comparison.latitude.size
    degrees = systems * comparison.spectrum_leads.size * levels * comparison.latitude.size * (DEGREE_SUMS.axis in kinds)
    inits = comparison.inits.size + further
    values = {
        "degree_sums": degrees * len(DEGREE_SUMS.labels(comparison)) * inits,
        "degree_intervals": degrees * 8 * intervals,
        "degree_differences": degrees * 4 * systems * len(STATISTICS) * (intervals and systems > 1),
        "sums": scores * moments * inits,
        "maps": places * len(map_metrics()),
        "map_sums": places * (len(LEFT_OPEN) - 2),
        "intervals": scores * metrics * 2 * intervals,
        "differences": scores * metrics * systems * len(STATISTICS) * (intervals and systems > 1),
    }
    full = scores * metrics + (systems + 1) * comparison.spectrum_leads.size * levels * waves
    return _BASE_BYTES + _FULL * full + sum(LAYOUTS[group].bytes_per_value * count for group, count in values.items())
