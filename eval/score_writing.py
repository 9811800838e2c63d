"""Writing `scores.nc`: scores of the sums of a scoring job, and how sure they are, one field at a time."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from eval.conventions import MISSING_FORECAST, MISSING_TRUTH, WEATHERBENCH2
from eval.event_curves import GROUP, event_curves
from eval.implausible_forecasts import IMPLAUSIBLE, tell_implausible
from eval.item_sums import key_of
from eval.joined_items import JoinedItems
from eval.map_sums import left_open, map_metrics, map_scores, moments_of, restored_sums
from eval.metrics import definitions, field_statistics, labelled, mean_over_init_times, metrics_from_means, metrics_in
from eval.score_storage import LARGE, stored
from eval.scores import all_sums, in_order
from eval.uncertainty import SEED, STATISTICS, block_length, intervals_and_differences
from weather_scnn.catalogue.units import squared_units
from weather_scnn.errors import UserError
from weather_scnn.io.atomic import whole_file


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: resamples (0 for none), init times in a block (None: n^⅓) and confidence."""

    samples: int = 1000
    block: int | None = None
    confidence: float = 0.95


class ScoreWriter(JoinedItems):
    """Makes scores of the joined items, and writes the file."""

    bootstrap: Bootstrap

    @property
    def _maps_are_large(self) -> bool:
        """Whether the sums over a map of any field are; all fields alike, for a group's moments are one axis."""
        comparison = self.comparison
        levels = max(len(comparison.levels or ()) if self._levels(field) else 1 for field in self.fields)
        maps = len(comparison.systems) * len(moments_of(wind=False)[1]) * len(comparison.map_leads) * levels
        return maps * comparison.latitude.size * comparison.longitude.size >= LARGE

    def _maps(self, field: str) -> dict[str, xr.Dataset]:
        total = self._arrays(field).get(f"maps/{field}")
        if total is None:
            return {}
        comparison = self.comparison
        axis, moments = moments_of(wind=field in comparison.vectors)
        leads = {axis: list(moments), "lead_time": comparison.leads[comparison.map_leads]}
        dims = ["system", axis, "lead_time", "level", "latitude", "longitude"]
        sums = self._array(
            total.reshape(*total.shape[:-1], comparison.latitude.size, comparison.longitude.size), field, dims, **leads
        )
        old, maps = self._old_group("map_sums"), self._old_group("maps")
        if old is not None and maps is not None:
            before = restored_sums(old[field].load(), maps[field].load()).reindex({axis: list(moments)}, fill_value=0.0)
            sums = sums + before.values
        sums.attrs = self._attributes(field)
        kept = left_open(sums) if self._maps_are_large else sums
        return {"maps": xr.Dataset({field: map_scores(sums)}), "map_sums": xr.Dataset({field: kept})}

    def _spectra(self, field: str) -> dict[str, xr.Dataset]:
        counts = self._arrays(field).get(f"spectrum_count/{field}")
        if counts is None:
            return {}
        comparison, old = self.comparison, self._old_group("spectra")
        axes = {"system": ["truth", *comparison.systems], "lead_time": comparison.leads[comparison.spectrum_leads]}
        count = self._array(counts, field, ["lead_time", "level"], **axes)
        fresh_count = count
        if old is not None:
            count = count + old[f"{field}_count"].load().values
        count.attrs = {"long_name": "spectra averaged"}
        variables = {f"{field}_count": count}
        units = self._attributes(field).get("units")
        for kind, axis in (("zonal", "zonal_wavenumber"), ("degree", "degree")):
            total = self._arrays(field)[f"{kind}/{field}"]
            dims = ["system", "lead_time", "level", axis]
            array = self._array(total, field, dims, **axes, **{axis: np.arange(total.shape[-1])})
            if old is not None:
                array = array + old[f"{field}_{kind}"].load().fillna(0.0) * (count - fresh_count)
            array = (array / count.where(count > 0)).transpose("system", "lead_time", *self._levels(field), axis)
            array.attrs = dict(_SPECTRUM_ATTRIBUTES[kind])
            if units is not None:
                array.attrs["units"] = squared_units(units, times_metres=kind == "zonal")
            variables[f"{field}_{kind}"] = array
        return {"spectra": xr.Dataset(variables)}

    def _degrees(self, field: str) -> dict[str, xr.Dataset]:
        """Scores of each degree of ensembles, the sums that they come from, and how sure they are."""
        sums = self.field_sums(field, "degree")
        if sums is None:
            return {}
        names = metrics_in(sums)
        scores, sure = field_scores(sums, field, names, self.bootstrap)
        scores["metric"].attrs.update(definitions(names))
        groups = {"sums": sums, "scores": xr.Dataset({field: scores}), **sure}
        return {f"degree_{name}": dataset for name, dataset in groups.items()}

    def _ranks(self, field: str) -> dict[str, xr.Dataset]:
        comparison, old = self.comparison, self._old_group("rank_histogram")
        held = {system: self._arrays(field).get(f"ranks/{system}/{field}") for system in comparison.systems}
        totals = {system: ranks for system, ranks in held.items() if ranks is not None}
        if not totals:
            return {}
        width = max(total.shape[-1] for total in totals.values())
        padded = [
            np.pad(total, [(0, 0), (0, 0), (0, width - total.shape[-1])], constant_values=np.nan)
            for total in totals.values()
        ]
        dims = ["system", "lead_time", "level", "rank"]
        area = self._array(np.stack(padded), field, dims, system=list(totals), rank=np.arange(width))
        if old is not None:
            area = area + old[field].load().values * old[f"{field}_area"].load().values[..., None]
        total = area.sum("rank")
        share = area / total.where(total > 0)
        share.attrs = {"long_name": "share of the area whose truth has this rank", "units": "1"}
        total.attrs = {"long_name": "area weights, summed over the init times"}
        return {"rank_histogram": xr.Dataset({field: share, f"{field}_area": total})}

    def write(
        self,
        output: str,
        attributes: dict[str, Any],
        bootstrap: Bootstrap,
        tick: Callable[[], None] = lambda: None,
        further: Callable[[str], Any] = lambda path: None,
    ) -> xr.Dataset:
        """Writes the file, which appears under its name only when whole; gives the scores of its root.

        Args:
            output: the file.
            attributes: of it.
            bootstrap: of intervals and differences.
            tick: called once a field.
            further: appends further groups.
        """
        self.bootstrap = bootstrap
        with whole_file(output) as part:
            scores = self._write(str(part), attributes, tick, further)
            for dataset in self._old.values():
                if dataset is not None:
                    dataset.close()
        return scores

    def _write(
        self, path: str, attributes: dict[str, Any], tick: Callable[[], None], further: Callable[[str], Any]
    ) -> xr.Dataset:
        metrics, convention = self._metrics(), self.comparison.request.convention
        scores, present, new = {}, [], True
        counts: dict[str, dict[str, np.ndarray]] = {"missing": {}, "implausible": {}}
        for field in sorted(self.fields, key=self._group):
            sums = self.field_sums(field)
            assert sums is not None
            if field in self.comparison.names:
                for kind, held in counts.items():
                    held[field] = self._arrays(field)[f"{kind}/{field}"]
            scores[field], further_groups = field_scores(sums, field, metrics, self.bootstrap, convention)
            weight = sums[field].sel(moment="weight", drop=True) > 0
            present.append(weight.any([name for name in weight.dims if name not in ("init_time", "lead_time")]))
            groups = {"sums": sums, **self._maps(field), **self._spectra(field), **self._ranks(field)}
            groups |= self._degrees(field) | further_groups
            for group, dataset in groups.items():
                append(dataset, path, group, new=new)
                new = False
            tick()
        root = xr.Dataset({field: scores[field] for field in self.fields})
        root["metric"].attrs.update(definitions(metrics))
        known = xr.concat(present, "field_").any("field_")
        counted = known.sum("init_time").astype(np.int64)
        ordered = {kind: [held[name] for name in self.comparison.names] for kind, held in counts.items()}
        if not counted.any():
            self._refuse(sum(int(each[1].sum()) for each in ordered["missing"]))
        by_field = ("field", "init_time", "lead_time")
        tail = {
            kind: self._counts(kind, by_field, [each[number] for each in ordered["missing"]], 0)
            for number, kind in enumerate((MISSING_TRUTH, MISSING_FORECAST))
        }
        implausible = self._counts(IMPLAUSIBLE, ("system", *by_field), ordered["implausible"], 1)
        tell_implausible(implausible)
        tail["init_count"] = counted.assign_attrs(long_name="init times with truth at this lead time")
        tail[IMPLAUSIBLE] = implausible.assign_attrs(long_name="maps whose values cannot be")
        root.attrs = {
            **attributes,
            **root_attributes(known["init_time"].values, metrics),
            "missing_in_truth": int(tail[MISSING_TRUTH].sum()),
            "missing_in_forecast": int(tail[MISSING_FORECAST].sum()),
            "implausible_in_forecast": int(implausible.sum()),
        }
        append(xr.Dataset(tail, attrs=root.attrs), path, "sums")
        if self.comparison.map_leads.size:
            texts = {f"definition_{score.name}": score.at_places for score in map_metrics()}
            append(xr.Dataset(attrs=texts), path, "maps")
        further(path)
        append(root, path, "")
        return root

    def _refuse(self, lacking: int) -> None:
        """Raises UserError where nothing could be scored."""
        if lacking:
            raise UserError(
                f"nothing could be scored: {lacking} values of the forecasts are missing, some of a system or member "
                "wherever there is truth",
                where=", ".join(forecast.path for forecast in self.comparison.forecasts.values()),
                remedy="score forecasts that went on; the attribute `stopped` of a forecast store tells which did not",
            )
        raise UserError(
            "nothing could be scored: at no point and time do truth, climatology and baselines all have values",
            where=self.comparison.request.truth,
            remedy="give truth and climatology of the scored days, or leave the climatology out",
        )

    def _metrics(self) -> tuple[str, ...]:
        """Metrics of the file: those of any field. Items are alike in this, so the first of each group tells."""
        found = set()
        for group, names in enumerate(self.comparison.groups):
            fields = [*names, *(name for name in self.comparison.vectors if self._group(name) == group)]
            kinds = [sums for sums in all_sums() if sums.along == "region"]
            arrays = self.finished.load(self.items[group][0].name, [key_of(s, f) for s in kinds for f in fields])
            for field in fields:
                sums = {}
                for each in kinds:
                    if (key := key_of(each, field)) in arrays:
                        axes = ["system", each.axis, "i", "l", "v", "r"]
                        labels = {each.axis: list(each.labels(self.comparison)), "system": self.comparison.systems}
                        sums[each.variable(field)] = xr.DataArray(arrays[key], labels, axes)
                found |= set(metrics_in(xr.Dataset(sums)))
        return in_order(found)


def append(dataset: xr.Dataset, path: str, group: str, *, below: str = "", new: bool = False) -> None:
    """Writes a group of a file, which it makes if `new`; coordinates come again with every field of a group, alike."""
    dataset, encoding = stored(dataset.drop_encoding(), group)
    place = f"{below}/{group}".strip("/") or None
    dataset.to_netcdf(path, mode="w" if new else "a", group=place, encoding=encoding)


def root_attributes(init_times: np.ndarray, metrics: Sequence[str]) -> dict[str, Any]:
    """Attributes of scores that tell over which init times they are, and what they mean."""
    times = np.datetime_as_string(init_times, "h")
    told = {"init_times": int(times.size), "first_init_time": min(times), "last_init_time": max(times)}
    return told | {f"definition_{name}": text for name, text in definitions(metrics).items()}


def field_scores(
    sums: xr.Dataset, field: str, metrics: Sequence[str], bootstrap: Bootstrap, convention: str = WEATHERBENCH2
) -> tuple[xr.DataArray, dict[str, xr.Dataset]]:
    """Scores of a field, and the groups that come of the same sums: event curves, intervals, differences."""
    statistics, groups = field_statistics(sums, field), {}
    averages = mean_over_init_times(statistics)
    scores = labelled(metrics_from_means(averages, convention), sums, field, metrics)
    curves = event_curves(averages, scores)
    if curves is not None:
        groups[GROUP] = xr.Dataset({field: curves})
    if bootstrap.samples:
        groups |= _uncertainty(statistics, sums, field, metrics, bootstrap, convention)
    return scores, groups


def _uncertainty(
    statistics: dict[str, np.ndarray],
    sums: xr.Dataset,
    field: str,
    metrics: Sequence[str],
    bootstrap: Bootstrap,
    convention: str,
) -> dict[str, xr.Dataset]:
    """Intervals and, of several systems, differences of a field's scores; see `eval.uncertainty`."""
    intervals, differences = intervals_and_differences(
        statistics,
        convention=convention,
        confidence=bootstrap.confidence,
        samples=bootstrap.samples,
        block=bootstrap.block,
    )
    array = labelled(intervals, sums, field, metrics, leading=["bound"])
    groups = {"intervals": array.assign_coords(bound=["lower", "upper"])}
    if sums.sizes["system"] > 1:
        shaped = {name: np.swapaxes(values, 1, 2) for name, values in differences.items()}
        array = labelled(shaped, sums, field, metrics, leading=["statistic", "reference_system"])
        array = array.assign_coords(statistic=list(STATISTICS), reference_system=sums["system"].values)
        groups["differences"] = array.transpose("statistic", "system", "reference_system", ...)
    block = bootstrap.block or block_length(sums.sizes["init_time"])
    method = f"circular block bootstrap over init times, {bootstrap.samples} resamples of blocks of {block}"
    attributes = {"confidence": bootstrap.confidence, "method": method, "seed": SEED}
    return {name: xr.Dataset({field: array}, attrs=attributes) for name, array in groups.items()}


_FIRST_MEMBER = "of an ensemble this is the spectrum of its first member, not of its mean, which is smooth"
_SPECTRUM_ATTRIBUTES = {
    "zonal": {
        "long_name": "zonal energy spectrum, mean over latitudes by area",
        "formula": "F = rfft(f)/N, C = 2 pi R cos(latitude); S_0 = C |F_0|^2, S_k = 2 C |F_k|^2, the Nyquist wavenumber not "
        "doubled; of a wind vector half the sum of both components",
        "comment": _FIRST_MEMBER,
    },
    "degree": {
        "long_name": "power per degree of the spherical harmonics",
        "formula": "sum over m of |a_lm|^2 / 4 pi, whose sum over l is the mean square; of a wind vector the kinetic energy "
        "per unit mass, whose sum over l is the mean of (u^2 + v^2)/2",
        "comment": _FIRST_MEMBER,
    },
}
