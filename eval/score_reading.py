"""Reading files of scores, those of earlier versions too."""

import numpy as np
import xarray as xr

from eval.conventions import FORMAT_VERSION, MEMBERS
from eval.map_sums import restored_sums
from eval.metrics import definitions
from weather_scnn.errors import UserError
from weather_scnn.io.marks import refuse_newer
from weather_scnn.io.sources import open_one

SUMS_GROUP = "sums"
#: Of scores at stations, laid out as the root and the groups beside it.
STATIONS = "stations"
#: All that the root of a file holds of scores at stations alone.
OBSERVATION_COUNT = "observation_count"
_RATIO = "spread_skill_ratio"


def open_scores(path: str, *, group: str = "/") -> xr.Dataset:
    """The scores of a `scores.nc`, or one of its groups such as "sums", in memory; see docs/scores.md.

    Of files that were made before spread and skill were compared for a number of members, the ratio comes corrected.

    Raises:
        UserError: the file does not exist or is not one of scores, or has not this group.
    """
    with open_one(path) as root:
        if not {"system", "metric", "lead_time"} <= set(root.dims):
            raise UserError("is not a file of scores", where=path, remedy="make one with `weather-scnn score`")
        refuse_newer(root.attrs, FORMAT_VERSION, "scores", path)
    try:
        with open_group(path, group) as dataset:
            dataset = dataset.load()
    except OSError as error:
        remedy = "score it with --observations" if group.startswith(STATIONS) else "make it with `weather-scnn score`"
        raise UserError(f"has no group {group!r}", where=path, remedy=remedy) from error
    if group == "map_sums":
        with open_group(path, "maps") as maps:
            sums = {name: restored_sums(array, maps[name].load()) for name, array in dataset.data_vars.items()}
        # Winds and other fields have moments of their own.
        return dataset.drop_dims(["moment", "wind_moment"], errors="ignore").assign(sums)
    return dataset


def scored_at_stations_alone(path: str) -> bool:
    """Whether a file holds no other scores than those at stations, for there was no truth.

    Raises:
        UserError: see `open_scores`.
    """
    return set(open_scores(path).data_vars) == {OBSERVATION_COUNT}


def open_group(path: str, group: str) -> xr.Dataset:
    """A group as it is stored, lazily, with what files of earlier versions lack.

    Raises:
        OSError: the file has not this group.
    """
    dataset = xr.open_dataset(path, group=None if group == "/" else group, decode_timedelta=True)
    if group == SUMS_GROUP and MEMBERS not in dataset.coords:
        members = xr.DataArray(_members(path, dataset["system"].values), dims="system")
        return dataset.assign_coords({MEMBERS: members.expand_dims(init_time=dataset["init_time"], axis=1)})
    if "metric" in dataset.dims and _RATIO in dataset["metric"].values and group in ("/", "intervals", "differences"):
        return _with_ratio_for_members(dataset, path)
    return dataset


def _members(path: str, systems: np.ndarray) -> np.ndarray:
    """Members of each system by the ranks that its truth may have, one more than members; 1 for single forecasts."""
    members = np.ones(systems.size, np.int64)
    try:
        with xr.open_dataset(path, group="rank_histogram", decode_timedelta=False) as ranks:
            shares = next(array for array in ranks.data_vars.values() if "rank" in array.dims)
            dims = [dim for dim in shares.dims if dim not in ("system", "rank")]
            for system, count in zip(ranks["system"].values, shares.notnull().any(dims).sum("rank").values):
                members[systems == system] = count - 1
    except OSError:
        pass
    return members


def _with_ratio_for_members(dataset: xr.Dataset, path: str) -> xr.Dataset:
    """Spread over skill times the root of (M + 1)/M, where the file was written before sums told M.

    Bounds of differences between systems of other M cannot be had from the file: they are NaN.
    """
    with xr.open_dataset(path, group=SUMS_GROUP, decode_timedelta=False) as sums:
        if MEMBERS in sums.coords:
            return dataset
    systems = dataset["system"]
    members = _members(path, systems.values)
    factor = xr.DataArray(np.sqrt((members + 1) / members), {"system": systems.values}, "system")
    dataset = dataset.load()
    if "reference_system" in dataset.dims:
        other = factor.rename(system="reference_system")
        factor = factor.where(np.abs(factor - other) < 1e-9)
    ratio = dataset["metric"] == _RATIO
    fields = {
        name: xr.where(ratio, array * factor, array).transpose(*array.dims).assign_attrs(array.attrs)
        for name, array in dataset.data_vars.items()
    }
    dataset = dataset.assign(fields)
    if f"definition_{_RATIO}" in dataset.attrs:
        dataset.attrs[f"definition_{_RATIO}"] = dataset["metric"].attrs[_RATIO] = definitions([_RATIO])[_RATIO]
    return dataset
