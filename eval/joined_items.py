"""The work items of a scoring job put together, a field at a time, and joined with those of a file that there is already."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from eval.conventions import MEMBERS
from eval.item_sums import init_axes, key_of
from eval.metrics import combine_sums
from eval.pairing import Comparison
from eval.score_reading import SUMS_GROUP, open_group
from eval.scores import all_sums
from eval.work_items import WorkItem
from weather_scnn.io.writing import Record


class JoinedItems:
    """What the items hold, as labelled arrays.

    Args:
        comparison: what was compared.
        finished: the work items' sums.
        items: all of them.
        existing: a file whose init times are joined with these; None for a new one.
    """

    def __init__(self, comparison: Comparison, finished: Record, items: Sequence[WorkItem], existing: str | None):
        self.comparison, self.finished, self.existing = comparison, finished, existing
        self.items = [[item for item in items if item.group == n] for n in range(len(comparison.groups))]
        self.fields = [*comparison.names, *comparison.vectors]
        self._old: dict[str, xr.Dataset | None] = {}
        self._loaded: tuple[int, dict[str, np.ndarray]] | None = None

    def _part(self, field: str) -> str:
        """The variable that tells levels and units: the field's own, or the eastward wind."""
        return self.comparison.vectors[field][0] if field in self.comparison.vectors else field

    def _group(self, field: str) -> int:
        return next(number for number, names in enumerate(self.comparison.groups) if self._part(field) in names)

    def _arrays(self, field: str) -> dict[str, np.ndarray]:
        """What the items of a field's group hold, put together; every item is read once, the latest group is kept."""
        group = self._group(field)
        if self._loaded is None or self._loaded[0] != group:
            axes = init_axes()
            held: dict[str, list[np.ndarray]] = {}
            for item in self.items[group]:
                for key, array in self.finished.load(item.name).items():
                    if key.split("/")[0] in axes or key not in held:
                        held.setdefault(key, []).append(array)
                    else:
                        held[key][0] += array
            joined = {
                key: np.concatenate(arrays, axis=axes[key.split("/")[0]]) if len(arrays) > 1 else arrays[0]
                for key, arrays in held.items()
            }
            self._loaded = group, joined
        return self._loaded[1]

    def _levels(self, field: str) -> list[str]:
        return ["level"] if "level" in self.comparison.truth[self._part(field)].dims else []

    def _attributes(self, field: str) -> dict[str, str]:
        vectors, source = self.comparison.vectors, self.comparison.truth[self._part(field)].attrs
        attributes = {key: source[key] for key in ("units", "long_name") if key in source}
        if field in vectors:
            attributes["long_name"] = f"wind vector of {' and '.join(vectors[field])}"
        return attributes

    def _array(self, values: np.ndarray, field: str, dims: Sequence[str], **further: Any) -> xr.DataArray:
        """An array with the job's coordinates and those given; without the axis of levels where the field has none."""
        comparison = self.comparison
        coordinates = {
            "system": comparison.systems,
            "init_time": comparison.inits,
            "lead_time": comparison.leads,
            "level": ("level", comparison.levels, {"units": "hPa"}),
            "region": list(comparison.request.regions),
            "latitude": comparison.latitude,
            "longitude": comparison.longitude,
            **further,
        }
        if not self._levels(field):
            values = np.squeeze(values, axis=list(dims).index("level"))
            dims = [dim for dim in dims if dim != "level"]
        kept = {dim: coordinates[dim] for dim in dims}
        return xr.DataArray(values, dims=dims, coords=kept, attrs=self._attributes(field))

    def _old_group(self, group: str) -> xr.Dataset | None:
        if self.existing is not None and group not in self._old:
            try:
                self._old[group] = open_group(self.existing, group)
            except OSError:
                self._old[group] = None
        return self._old.get(group)

    def field_sums(self, field: str, along: str = "region") -> xr.Dataset | None:
        """Sums of one field over all init times, those of the existing file included; None if there are none along this axis."""
        comparison, variables = self.comparison, {}
        kinds = [sums for sums in all_sums() if sums.along == along and key_of(sums, field) in self._arrays(field)]
        for sums in kinds:
            dims = ["system", sums.axis, "init_time", "lead_time", "level", along]
            axes = {sums.axis: list(sums.labels(comparison)), "lead_time": comparison.leads[sums.leads(comparison)]}
            axes |= {} if along == "region" else {along: np.arange(sums.size(comparison))}
            variables[sums.variable(field)] = self._array(self._arrays(field)[key_of(sums, field)], field, dims, **axes)
        if not kinds:
            return None
        found = xr.Dataset(variables, attrs={"convention": comparison.request.convention})
        found = found.assign_coords({MEMBERS: self._members(field, found)})
        old = self._old_group(SUMS_GROUP if along == "region" else f"{along}_sums")
        if old is None:
            return found
        held = old[[name for name in variables if name in old]].load()
        # What the file did not know yet is not known of its init times.
        axes = {sums.axis: found[sums.axis].values for sums in kinds}
        held = held.reindex({axis: labels for axis, labels in axes.items() if axis in held.dims}).assign_attrs(
            found.attrs
        )
        missing = {name: xr.full_like(array.isel(init_time=0), np.nan) for name, array in variables.items()}
        held = held.assign(
            {
                name: array.expand_dims(init_time=held["init_time"])
                for name, array in missing.items()
                if name not in held
            }
        )
        return combine_sums([held, found]).drop_vars("init_count", errors="ignore")

    def _members(self, field: str, sums: xr.Dataset) -> xr.DataArray:
        """How many members each system's ensemble has: one fewer than the ranks that the truth may have among them."""
        counts = np.ones(len(self.comparison.systems), np.int64)
        for key, array in self._arrays(field).items():
            if key.startswith("ranks/"):
                counts[self.comparison.systems.index(key.split("/")[1])] = array.shape[-1] - 1
        members = xr.DataArray(counts, dims="system", attrs={"long_name": "members of the ensemble"})
        return members.expand_dims(init_time=sums["init_time"], axis=1)

    def _counts(self, kind: str, dims: Sequence[str], held: Sequence[np.ndarray], axis: int) -> xr.DataArray:
        """Counts by variable, init and lead time, with those of the existing file; 0 where files of before do not tell."""
        comparison, old = self.comparison, self._old_group(SUMS_GROUP)
        coordinates = {
            "system": comparison.systems, "field": comparison.names, "init_time": comparison.inits,
            "lead_time": comparison.leads,
        }  # fmt: skip
        array = xr.DataArray(np.stack(held, axis=axis), {dim: coordinates[dim] for dim in dims}, dims)
        if old is None:
            return array
        if kind in old:
            before = old[kind].load().reset_coords(drop=True)
        else:
            before = (array.isel(init_time=0, drop=True) * 0).expand_dims(init_time=old["init_time"].values)
        joined = xr.concat([before, array], dim="init_time", coords="minimal", compat="override").sortby("init_time")
        return joined.transpose(*dims)
