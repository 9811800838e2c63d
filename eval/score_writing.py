"""Putting the pieces of a scoring job together into `scores.nc`, one field at a time."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from eval.implausible_forecasts import IMPLAUSIBLE, tell_implausible
from eval.metrics import (
    ANOMALY_METRICS,
    BASE_METRICS,
    BRIER_METRICS,
    DEFINITIONS,
    ENSEMBLE_METRICS,
    ENSEMBLE_MOMENTS,
    MEMBERS,
    MISSING_FORECAST,
    MISSING_TRUTH,
    SEEPS_MOMENTS,
    combine_sums,
    ensemble_sums_name,
    field_statistics,
    labelled,
    mean_over_init_times,
    metrics_from_means,
    seeps_sums_name,
)
from eval.moments import moments_of
from eval.pairing import Comparison
from eval.parts import Parts
from eval.piece_sizes import Piece
from eval.score_maps import MAP_DEFINITIONS, MAP_MOMENTS, WIND_MAP_MOMENTS, left_open, map_scores, restored_sums
from eval.score_reading import SUMS_GROUP, open_group
from eval.score_storage import LARGE, stored
from eval.uncertainty import SEED, STATISTICS, block_length, intervals_and_differences
from weather_scnn.catalogue.units import squared_units
from weather_scnn.errors import UserError
from weather_scnn.io.atomic import whole_file

# What pieces hold of every init time; all else are sums over them.
_AXIS_OF_INIT_TIMES = {"sums": 2, "ensemble": 2, "seeps": 2, "missing": 1, "implausible": 1}


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: resamples (0 for none), init times in a block (None: n^⅓) and confidence."""

    samples: int = 1000
    block: int | None = None
    confidence: float = 0.95


class ScoreWriter:
    """Assembles and writes the file.

    Args:
        comparison: what was compared.
        parts: the finished pieces.
        pieces: all of them.
        existing: a file whose init times are joined with these; None for a new one.
        bootstrap: of the intervals.
    """

    def __init__(
        self,
        comparison: Comparison,
        parts: Parts,
        pieces: Sequence[Piece],
        existing: str | None,
        bootstrap: Bootstrap,
    ):
        self.comparison, self.parts, self.existing, self.bootstrap = comparison, parts, existing, bootstrap
        self.pieces = [[piece for piece in pieces if piece.group == n] for n in range(len(comparison.groups))]
        self.fields = [*comparison.names, *comparison.vectors]
        self._old: dict[str, xr.Dataset] = {}
        self._loaded: tuple[int, dict[str, np.ndarray]] | None = None

    def _group(self, field: str) -> int:
        name = self.comparison.vectors[field][0] if field in self.comparison.vectors else field
        return next(number for number, names in enumerate(self.comparison.groups) if name in names)

    def _arrays(self, field: str) -> dict[str, np.ndarray]:
        """What the pieces of a field's group hold, put together; every piece is read once, the latest group is kept."""
        group = self._group(field)
        if self._loaded is None or self._loaded[0] != group:
            joined: dict[str, list[np.ndarray]] = {}
            totals: dict[str, np.ndarray] = {}
            for piece in self.pieces[group]:
                for key, array in self.parts.load(piece.name).items():
                    if key.split("/")[0] in _AXIS_OF_INIT_TIMES:
                        joined.setdefault(key, []).append(array)
                    elif key in totals:
                        totals[key] += array
                    else:
                        totals[key] = array
            axes = {key: _AXIS_OF_INIT_TIMES[key.split("/")[0]] for key in joined}
            whole = {key: np.concatenate(arrays, axis=axes[key]) for key, arrays in joined.items()}
            self._loaded = group, whole | totals
        return self._loaded[1]

    def _dims(self, field: str) -> tuple[list[str], dict[str, Any], bool]:
        """Level dimension and its coordinate, if the field has levels."""
        name = self.comparison.vectors[field][0] if field in self.comparison.vectors else field
        if "level" not in self.comparison.truth[name].dims:
            return [], {}, False
        return ["level"], {"level": ("level", self.comparison.levels, {"units": "hPa"})}, True

    def _attributes(self, field: str) -> dict[str, str]:
        vectors = self.comparison.vectors
        source = self.comparison.truth[vectors[field][0] if field in vectors else field].attrs
        attributes = {key: source[key] for key in ("units", "long_name") if key in source}
        if field in vectors:
            attributes["long_name"] = f"wind vector of {' and '.join(vectors[field])}"
        return attributes

    def _array(
        self, values: np.ndarray, dims: Sequence[str], coordinates: dict, field: str, level_axis: int
    ) -> xr.DataArray:
        """An array whose axis of levels goes where the field has none."""
        _, level_coordinate, has = self._dims(field)
        if not has:
            values = np.squeeze(values, axis=level_axis)
        names = [name for name in dims if name != "level" or has]
        return xr.DataArray(
            values, dims=names, coords={**coordinates, **level_coordinate}, attrs=self._attributes(field)
        )

    def _old_group(self, group: str) -> xr.Dataset | None:
        if self.existing is None:
            return None
        if group not in self._old:
            try:
                self._old[group] = open_group(self.existing, group)
            except OSError:
                return None
        return self._old[group]

    def field_sums(self, field: str) -> xr.Dataset:
        """Sums of one field over all init times, those of the existing file included."""
        comparison = self.comparison
        coordinates = {
            "system": comparison.systems,
            "init_time": comparison.inits,
            "lead_time": comparison.leads,
            "region": list(comparison.request.regions),
        }
        kinds = {
            field: ("sums", "moment", moments_of(anomalies=comparison.anomalies, pooled=comparison.pooled)),
            ensemble_sums_name(field): ("ensemble", "ensemble_moment", ENSEMBLE_MOMENTS),
            seeps_sums_name(field): ("seeps", "seeps_moment", SEEPS_MOMENTS),
        }
        variables = {}
        for name, (kind, axis, labels) in kinds.items():
            values = self._arrays(field).get(f"{kind}/{field}")
            if values is not None:
                dims = ["system", axis, "init_time", "lead_time", "level", "region"]
                variables[name] = self._array(values, dims, {**coordinates, axis: list(labels)}, field, 4)
        sums = xr.Dataset(variables, attrs={"convention": comparison.request.convention})
        sums = sums.assign_coords({MEMBERS: self._members(field, sums)})
        old = self._old_group(SUMS_GROUP)
        if old is not None:
            kept = old[list(variables)].load().assign_attrs(convention=comparison.request.convention)
            sums = combine_sums([kept, sums]).drop_vars("init_count")
        return sums

    def _members(self, field: str, sums: xr.Dataset) -> xr.DataArray:
        """How many members each system's ensemble has: one fewer than the ranks that the truth may have among them."""
        counts = np.ones(len(self.comparison.systems), np.int64)
        for key, array in self._arrays(field).items():
            if key.startswith("ranks/"):
                counts[self.comparison.systems.index(key.split("/")[1])] = array.shape[-1] - 1
        members = xr.DataArray(counts, dims="system", attrs={"long_name": "members of the ensemble"})
        return members.expand_dims(init_time=sums["init_time"], axis=1)

    def _missing(self, counts: dict[str, np.ndarray]) -> dict[str, xr.DataArray]:
        """Points left out, from those of each variable, shape (2, init, lead)."""
        names = self.comparison.names
        stacked = np.stack([counts[name] for name in names])
        coordinates = {"field": names, "init_time": self.comparison.inits, "lead_time": self.comparison.leads}
        old = self._old_group("sums")
        result = {}
        for number, kind in enumerate((MISSING_TRUTH, MISSING_FORECAST)):
            array = xr.DataArray(stacked[:, number], dims=("field", "init_time", "lead_time"), coords=coordinates)
            if old is not None:
                array = xr.concat([old[kind].load(), array], dim="init_time").sortby("init_time")
            result[kind] = array
        return result

    def _implausible(self, counts: dict[str, np.ndarray]) -> xr.DataArray:
        """Maps that cannot be, from those of each variable, shape (system, init, lead); 0 where files of before do not tell."""
        names, old = self.comparison.names, self._old_group(SUMS_GROUP)
        coordinates = {
            "system": self.comparison.systems,
            "field": names,
            "init_time": self.comparison.inits,
            "lead_time": self.comparison.leads,
        }
        array = xr.DataArray(np.stack([counts[name] for name in names], axis=1), coordinates, tuple(coordinates))
        if old is None:
            return array
        nothing = old[MISSING_FORECAST].astype(np.int64).expand_dims(system=self.comparison.systems) * 0
        held = old[IMPLAUSIBLE].load() if IMPLAUSIBLE in old else nothing
        joined = xr.concat([held.reset_coords(drop=True), array], dim="init_time", coords="minimal", compat="override")
        return joined.sortby("init_time")

    @property
    def _maps_are_large(self) -> bool:
        """Whether the sums over a map of any field are."""
        comparison = self.comparison
        levels = max(len(comparison.levels or ()) if self._dims(field)[2] else 1 for field in self.fields)
        points = comparison.latitude.size * comparison.longitude.size
        return len(comparison.systems) * len(MAP_MOMENTS) * len(comparison.map_leads) * levels * points >= LARGE

    def _maps(self, field: str) -> dict[str, xr.Dataset]:
        total = self._arrays(field).get(f"maps/{field}")
        if total is None:
            return {}
        comparison = self.comparison
        shape = (comparison.latitude.size, comparison.longitude.size)
        parts = comparison.vectors.get(field, (field,))
        axis, moments = ("moment", MAP_MOMENTS) if len(parts) == 1 else ("wind_moment", WIND_MAP_MOMENTS)
        coordinates = {
            "system": comparison.systems,
            axis: list(moments),
            "lead_time": comparison.leads[comparison.map_leads],
            "latitude": comparison.latitude,
            "longitude": comparison.longitude,
        }
        dims = ["system", axis, "lead_time", "level", "latitude", "longitude"]
        sums = self._array(total.reshape(*total.shape[:-1], *shape), dims, coordinates, field, 3)
        old = self._old_group("map_sums")
        if old is not None:
            maps = self._old_group("maps")
            assert maps is not None
            sums = sums + restored_sums(old[field].load(), maps[field].load()).values
        sums.attrs = self._attributes(field)
        scores = map_scores(sums)
        if not all(comparison.has_normal(part) for part in parts):
            scores = scores.where(~scores["metric"].isin(["acc", "activity"]))
        # Small sums are kept whole, as all small arrays are; all fields alike, for a group's moments are one axis.
        kept = left_open(sums) if self._maps_are_large else sums
        return {"maps": xr.Dataset({field: scores}), "map_sums": xr.Dataset({field: kept})}

    def _spectra(self, field: str) -> dict[str, xr.Dataset]:
        counts = self._arrays(field).get(f"spectrum_count/{field}")
        if counts is None:
            return {}
        comparison, old = self.comparison, self._old_group("spectra")
        systems = ["truth", *comparison.systems]
        leads = {"lead_time": comparison.leads[comparison.spectrum_leads]}
        count = self._array(counts, ["lead_time", "level"], leads, field, 1)
        fresh_count = count
        if old is not None:
            count = count + old[f"{field}_count"].load().values
        count.attrs = {"long_name": "spectra averaged"}
        variables = {f"{field}_count": count}
        units = self._attributes(field).get("units")
        for kind, axis in (("zonal", "zonal_wavenumber"), ("degree", "degree")):
            total = self._arrays(field)[f"{kind}/{field}"]
            coordinates = {"system": systems, **leads, axis: np.arange(total.shape[-1])}
            array = self._array(total, ["system", "lead_time", "level", axis], coordinates, field, 2)
            if old is not None:
                array = array + old[f"{field}_{kind}"].load().fillna(0.0) * (count - fresh_count)
            order = ["system", "lead_time", *self._dims(field)[0], axis]
            array = (array / count.where(count > 0)).transpose(*order)
            array.attrs = dict(_SPECTRUM_ATTRIBUTES[kind])
            if units is not None:
                array.attrs["units"] = squared_units(units, times_metres=kind == "zonal")
            variables[f"{field}_{kind}"] = array
        return {"spectra": xr.Dataset(variables)}

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
        coordinates = {"system": list(totals), "lead_time": comparison.leads, "rank": np.arange(width)}
        area = self._array(np.stack(padded), ["system", "lead_time", "level", "rank"], coordinates, field, 2)
        if old is not None:
            area = area + old[field].load().values * old[f"{field}_area"].load().values[..., None]
        total = area.sum("rank")
        share = area / total.where(total > 0)
        share.attrs = {"long_name": "share of the area whose truth has this rank", "units": "1"}
        total.attrs = {"long_name": "area weights, summed over the init times"}
        return {"rank_histogram": xr.Dataset({field: share, f"{field}_area": total})}

    def write(self, output: str, attributes: dict[str, Any], tick=lambda: None) -> xr.Dataset:
        """Writes the file, which appears under its name only when whole; gives the scores of its root."""
        with whole_file(output) as part:
            scores = self._write(str(part), attributes, tick)
            for dataset in self._old.values():
                dataset.close()
        return scores

    def _write(self, path: str, attributes: dict[str, Any], tick) -> xr.Dataset:
        metrics = self._metrics()
        scores, present, first = {}, None, True
        counted_points: dict[str, dict[str, np.ndarray]] = {"missing": {}, "implausible": {}}
        bootstrap = self.bootstrap
        for field in sorted(self.fields, key=self._group):
            sums = self.field_sums(field)
            if field in self.comparison.names:
                for kind, counts in counted_points.items():
                    counts[field] = self._arrays(field)[f"{kind}/{field}"]
            statistics = field_statistics(sums, field)
            convention = self.comparison.request.convention
            means = metrics_from_means(mean_over_init_times(statistics), convention)
            scores[field] = labelled(means, sums, field, metrics)
            weight = sums[field].sel(moment="weight", drop=True) > 0
            weight = weight.any([name for name in weight.dims if name not in ("init_time", "lead_time")])
            present = weight if present is None else present | weight
            groups = {"sums": sums, **self._maps(field), **self._spectra(field), **self._ranks(field)}
            inits = sums.sizes["init_time"]
            if bootstrap.samples:
                intervals, differences = intervals_and_differences(
                    statistics,
                    convention=convention,
                    confidence=bootstrap.confidence,
                    samples=bootstrap.samples,
                    block=bootstrap.block,
                )
                groups["intervals"] = self._intervals(intervals, sums, field, metrics)
                if len(self.comparison.systems) > 1:
                    groups["differences"] = self._differences(differences, sums, field, metrics)
                block = bootstrap.block or block_length(inits)
                for name in ("intervals", "differences"):
                    if name in groups:
                        groups[name].attrs = {
                            "confidence": bootstrap.confidence,
                            "method": f"circular block bootstrap over init times, {bootstrap.samples} resamples of blocks "
                            f"of {block}",
                            "seed": SEED,
                        }
            for group, dataset in groups.items():
                self._append(dataset, path, group, first=first)
                first = False
            tick()
        root = xr.Dataset({field: scores[field] for field in self.fields})
        root["metric"].attrs.update({name: DEFINITIONS[name] for name in metrics})
        assert present is not None
        counted = present.sum("init_time").astype(np.int64)
        if not counted.any():
            lacking = sum(int(counts[1].sum()) for counts in counted_points["missing"].values())
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
        missing = self._missing(counted_points["missing"])
        implausible = self._implausible(counted_points["implausible"])
        tell_implausible(implausible)
        tail = xr.Dataset(
            {
                "init_count": counted.assign_attrs(long_name="init times with truth at this lead time"),
                **missing,
                IMPLAUSIBLE: implausible.assign_attrs(long_name="maps whose values cannot be"),
            }
        )
        everything = {
            **attributes,
            "init_times": int(present.sizes["init_time"]),
            "first_init_time": np.datetime_as_string(present["init_time"].values.min(), "h"),
            "last_init_time": np.datetime_as_string(present["init_time"].values.max(), "h"),
            "missing_in_truth": int(missing[MISSING_TRUTH].sum()),
            "missing_in_forecast": int(missing[MISSING_FORECAST].sum()),
            "implausible_in_forecast": int(implausible.sum()),
            **{f"definition_{name}": DEFINITIONS[name] for name in metrics},
        }
        root.attrs = everything
        self._append(tail.assign_attrs(everything), path, "sums", first=False)
        if self.comparison.map_leads.size:
            self._append(
                xr.Dataset(attrs={f"definition_{k}": v for k, v in MAP_DEFINITIONS.items()}), path, "maps", first=False
            )
        self._append(root, path, None, first=False)
        return root

    def _metrics(self) -> tuple[str, ...]:
        """Metrics of the file: those of any field. Pieces are alike in this, so the first of each group tells."""
        found = set(BASE_METRICS) | (set(ANOMALY_METRICS) if self.comparison.anomalies else set())
        for group, names in enumerate(self.comparison.groups):
            keys = [f"{kind}/{name}" for kind in ("ensemble", "seeps") for name in names]
            for key, array in self.parts.load(self.pieces[group][0].name, keys).items():
                if key.startswith("seeps"):
                    found.add("seeps")
                    continue
                found |= set(ENSEMBLE_METRICS)
                if np.isfinite(array[:, [ENSEMBLE_MOMENTS.index(name) for name in BRIER_METRICS]]).any():
                    found |= set(BRIER_METRICS)
        return (
            *(name for name in DEFINITIONS if name in found and name not in BRIER_METRICS),
            *(name for name in BRIER_METRICS if name in found),
        )

    def _intervals(self, parts: dict, sums: xr.Dataset, field: str, metrics: Sequence[str]) -> xr.Dataset:
        array = labelled(parts, sums, field, metrics, leading=["bound"])
        return xr.Dataset({field: array.assign_coords(bound=["lower", "upper"])})

    def _differences(self, parts: dict, sums: xr.Dataset, field: str, metrics: Sequence[str]) -> xr.Dataset:
        shaped = {name: np.swapaxes(values, 1, 2) for name, values in parts.items()}
        array = labelled(shaped, sums, field, metrics, leading=["statistic", "reference_system"])
        array = array.assign_coords(statistic=list(STATISTICS), reference_system=self.comparison.systems)
        level = self._dims(field)[0]
        order = ["statistic", "system", "reference_system", "metric", "lead_time", *level, "region"]
        return xr.Dataset({field: array.transpose(*order)})

    @staticmethod
    def _append(dataset: xr.Dataset, path: str, group: str | None, *, first: bool) -> None:
        dataset, encoding = stored(dataset.drop_encoding(), group)
        # Coordinates come again with every field of a group, alike.
        dataset.to_netcdf(path, mode="w" if first else "a", group=group, encoding=encoding)


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
