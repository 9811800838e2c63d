"""The groups of `scores.nc` for stations: `stations` laid out as the root, and below it what the root has beside itself."""

from typing import Any

import numpy as np
import xarray as xr

from eval.conventions import MEMBERS
from eval.metrics import combine_sums, definitions, fields_of, metrics_in
from eval.score_reading import OBSERVATION_COUNT, STATIONS, SUMS_GROUP, open_group
from eval.score_writing import Bootstrap, append, field_scores, root_attributes
from eval.scores import ENSEMBLE_SUMS, EVENT_SUMS, in_order
from eval.scores.errors import ERRORS
from eval.stations.comparison import ALL_STATIONS, StationComparison
from eval.stations.scoring import AT_STATION, ENSEMBLE, item_name, labels_of
from weather_scnn.catalogue.naming import find
from weather_scnn.errors import UserError
from weather_scnn.io.writing import Record

PLACES = "places"
#: Scores of every station, from the sums there; a station's `count` is the number of observations.
_PLACE_METRICS = ("bias", "rmse", "mae", "crps")


class StationWriter:
    """Makes scores of the finished sums of stations.

    Args:
        comparison: what was compared.
        finished: its sums.
        existing: a file whose init times are joined with these; None for a new one.
    """

    def __init__(self, comparison: StationComparison, finished: Record, existing: str | None):
        self.comparison, self.finished, self.existing = comparison, finished, existing
        self.levels = sorted({level for _, level in comparison.keys if level is not None})
        self.names = list(dict.fromkeys(name for name, _ in comparison.keys))

    def _array(self, name: str, part: str, dims: list[str], labels: list[str], label_dim: str) -> xr.DataArray | None:
        """What the items hold of a variable, its levels together, dims (system, label, …[, level], last)."""
        comparison = self.comparison
        keys = [key for key in comparison.keys if key[0] == name]
        loaded = {key[1]: self.finished.load(item_name(key), [part]) for key in keys}
        held = {level: arrays[part] for level, arrays in loaded.items() if part in arrays}
        if not held:
            return None
        coordinates: dict[str, Any] = {
            "system": comparison.systems, label_dim: labels, "init_time": comparison.inits, "lead_time": comparison.leads,
            "region": comparison.groups, "station": comparison.observations.ids,
        }  # fmt: skip
        if None not in held:
            absent = np.full_like(next(iter(held.values())), np.nan)
            values = np.stack([held.get(level, absent) for level in self.levels], axis=-2)
            dims = [*dims[:-1], "level", dims[-1]]
            coordinates["level"] = ("level", self.levels, {"units": "hPa"})
        else:
            values = held[None]
        kept = {dim: coordinates[dim] for dim in ("system", label_dim, *dims)}
        attributes = {key: find(name).attributes[key] for key in ("units", "long_name")}
        return xr.DataArray(values, kept, ["system", label_dim, *dims], attrs=attributes)

    def sums(self) -> xr.Dataset:
        """Sums over groups of stations by init time, those of the existing file included."""
        found: dict[str, xr.DataArray] = {}
        dims = ["init_time", "lead_time", "region"]
        for name in self.names:
            kinds = (
                ("errors", list(ERRORS), "moment", name),
                ("ensemble", list(ENSEMBLE), ENSEMBLE_SUMS.axis, ENSEMBLE_SUMS.variable(name)),
                ("events", labels_of(self.comparison), EVENT_SUMS.axis, EVENT_SUMS.variable(name)),
            )
            for part, labels, axis, variable in kinds:
                array = self._array(name, part, dims, labels, axis)
                if array is not None:
                    found[variable] = array
        members = np.array([self.comparison.members(system) for system in self.comparison.systems])
        counts = np.repeat(members[:, None], self.comparison.inits.size, axis=1)
        sums = xr.Dataset(found).assign_coords({MEMBERS: (("system", "init_time"), counts)})
        if self.existing is not None:
            try:
                with open_group(self.existing, f"{STATIONS}/{SUMS_GROUP}") as old:
                    sums = combine_sums([old.load(), sums]).drop_vars("init_count", errors="ignore")
            except OSError as error:
                raise UserError(
                    "has no scores at stations to add to", where=self.existing, remedy="leave out --add"
                ) from error
        return sums

    def places(self) -> xr.Dataset:
        """Scores of every station over all init times, dims (system, metric, lead_time[, level], station)."""
        comparison, found = self.comparison, {}
        for name in self.names:
            sums = self._array(name, "stations", ["lead_time", "station"], list(AT_STATION), "moment")
            assert sums is not None
            count = sums.sel(moment="weight", drop=True)
            means = sums / sums.sel(moment="weight").where(sums.sel(moment="weight") > 0)
            parts = [
                means.sel(moment="error"), means.sel(moment="squared_error") ** 0.5, means.sel(moment="absolute_error"),
                means.sel(moment="crps"),
            ]  # fmt: skip
            array = xr.concat([each.drop_vars("moment") for each in parts], "metric").assign_coords(
                metric=list(_PLACE_METRICS)
            )
            order = ["system", "metric", "lead_time", *(["level"] if "level" in array.dims else []), "station"]
            found[name] = array.transpose(*order).astype(np.float32).assign_attrs(sums.attrs)
            found[f"{name}_count"] = count.fillna(0).astype(np.int32)
        latitude, longitude, moves = comparison.observations.places
        degrees = {"latitude": (latitude, "degrees_north"), "longitude": (longitude, "degrees_east")}
        coordinates: dict[str, Any] = {
            axis: ("station", each, {"units": units}) for axis, (each, units) in degrees.items()
        }
        coordinates["elevation"] = ("station", comparison.observations.elevation, {"units": "m"})
        coordinates["moves"] = (
            "station",
            moves.astype(np.int8),
            {"long_name": "1 where the position is that of the first report"},
        )
        places = xr.Dataset(found).assign_coords(coordinates)
        if self.existing is None:
            return places
        with open_group(self.existing, f"{STATIONS}/{PLACES}") as old:
            return added_places(old.load(), places)

    def write(self, path: str, attributes: dict, bootstrap: Bootstrap, *, alone: bool = False) -> xr.Dataset:
        """Appends the groups to a file, and gives the scores.

        Args:
            path: the file; a new one if `alone`, whose root then tells systems, lead times and metrics.
            attributes: of the file.
            bootstrap: of intervals and differences.
            alone: whether there are no other scores.

        Raises:
            UserError: nothing could be scored.
        """
        sums = self.sums()
        sums.attrs = {**attributes, **self.comparison.notes, "convention": attributes.get("convention", "")}
        if not any((sums[name].sel(moment="weight") > 0).any() for name in self.names):
            raise UserError(
                "nothing could be scored: at no station and time have all systems a value beside an observation",
                where=self.comparison.observations.path, remedy="give observations of the forecasts' valid times",
            )  # fmt: skip
        metrics = in_order(metrics_in(sums))
        scores, groups = {}, {SUMS_GROUP: sums}
        for field in fields_of(sums):
            scores[field], further = field_scores(sums, field, metrics, bootstrap)
            for name, dataset in further.items():
                groups[name] = groups[name].merge(dataset) if name in groups else dataset
        root = xr.Dataset(scores)
        root["metric"].attrs.update(definitions(metrics))
        root.attrs = sums.attrs | root_attributes(sums["init_time"].values, metrics)
        root.attrs["stations"] = int((self.comparison.belongs[:, 0] > 0).sum())
        # A group's parents come after it, so that it has axes of its own and can be read alone.
        for name, dataset in {**groups, PLACES: self.places(), "": root}.items():
            append(dataset, path, name, below=STATIONS, new=alone and name == SUMS_GROUP)
        if alone:
            # A file with nothing but coordinates in its root would be taken for one of other fields in groups.
            weights = [sums[name].sel(moment="weight", region=ALL_STATIONS, drop=True) for name in self.names]
            counts = sum(each.sum([dim for dim in each.dims if dim not in ("system", "lead_time")]) for each in weights)
            told = xr.Dataset({OBSERVATION_COUNT: counts}, {name: root[name] for name in root.coords}, root.attrs)
            told[OBSERVATION_COUNT].attrs = {"long_name": "observations that count, of all variables", "units": "1"}
            told.to_netcdf(path, mode="a")
        return root


def added_places(old: xr.Dataset, new: xr.Dataset) -> xr.Dataset:
    """Scores of stations over the init times of both; a station that one has not got is that of the other."""
    stations = np.union1d(old["station"].values, new["station"].values)
    parts = [part.reindex(station=stations) for part in (old, new)]
    result = {}
    for name in [str(name) for name in new.data_vars if not str(name).endswith("_count")]:
        counts = [part[f"{name}_count"].fillna(0) for part in parts]
        whole = counts[0] + counts[1]
        arrays = [part[name] for part in parts]
        squared = arrays[0]["metric"] == "rmse"
        sums = [xr.where(squared, array**2, array).fillna(0) * count for array, count in zip(arrays, counts)]
        means = (sums[0] + sums[1]) / whole.where(whole > 0)
        kept = arrays[0].notnull() | arrays[1].notnull()
        result[name] = (
            xr.where(squared, np.sqrt(xr.where(squared, means, 0.0)), means)
            .where(kept)
            .transpose(*arrays[1].dims)
            .astype(np.float32)
        )
        result[name].attrs = arrays[1].attrs
        result[f"{name}_count"] = whole.astype(np.int32)
    coordinates = {
        axis: ("station", np.where(parts[1][axis].isnull(), parts[0][axis], parts[1][axis]), new[axis].attrs)
        for axis in ("latitude", "longitude", "elevation", "moves")
    }
    return xr.Dataset(result).assign_coords(coordinates)
