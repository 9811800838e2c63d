"""Area sums by their definitions, each written out, and chunks without stores to hold the fast ones against them."""

import functools
import types

import numpy as np

from eval.area_sums import AreaWeights, Scratch, truth_sums
from eval.chunks import Chunk
from eval.scores.errors import ANOMALIES, POOLED


def defined_sums(forecast, truth, climatology, weights, valid, *, anomalies, pooled=False):
    """Sums of errors and anomalies over the valid points of (…, y, x), shape (label, …, r); weights are (r, y, x)."""

    def weighted(values, columns=weights):
        return np.einsum("...yx,ryx->...r", np.broadcast_to(values, np.shape(truth)).astype(float), columns)

    f, o = (np.where(valid, each, 0.0).astype(float) for each in (forecast, truth))
    e = f - o
    sums = [weighted(each) for each in (valid, e * e, np.abs(e), e)]
    if anomalies and climatology is not None:
        c = np.where(valid, climatology, 0.0)
        f, o = f - c, o - c
        sums += [weighted(each) for each in (f, o, f * f, o * o, f * o)]
        if pooled:
            sums += [weighted(np.where(valid, each, 0.0), (weights > 0) * 1.0) for each in (np.ones(f.shape), f, o)]
    elif anomalies:
        sums += [np.full_like(sums[0], np.nan)] * (len(ANOMALIES) + pooled * len(POOLED))
    return np.stack(sums)


class LooseChunk(Chunk):
    """A chunk of given arrays: forecasts (l, n, v, p) by system, truth and anomaly (l, v, p)."""

    def __init__(self, forecasts, truth, anomaly, regions, *, mask=None, pooled=False, winds=(), thresholds=None):
        self._forecasts, self.mask, self.name, self._winds = forecasts, mask, "x", winds
        self.weights, self.scratch = AreaWeights(regions, pooled=pooled), Scratch(regions[0].size)
        self.truth, self.anomaly, self._once, self._thresholds = truth, anomaly, {}, thresholds
        self.leads = np.arange(len(truth) if truth is not None else winds[0].leads.size)
        self.comparison = types.SimpleNamespace(anomalies=True, pooled=pooled, vectors={}, forecasts=forecasts)

    truth = None  # type: ignore[assignment]
    anomaly = None  # type: ignore[assignment]

    @functools.cached_property
    def truth_sums(self):
        anomaly = self.anomaly if self.mask is None else np.where(self.mask, self.anomaly, 0.0)
        return truth_sums(self.truth, anomaly, self.weights)

    def forecast(self, system):
        return self._forecasts[system]

    def thresholds(self, number):
        return self._thresholds

    def masked(self, mask):
        return LooseChunk(
            self._forecasts, self.truth, self.anomaly, self.weights.regions, mask=mask, pooled=self.comparison.pooled
        )
