"""What files call their axes: names, standard names and units tell which is which, never positions."""

import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.versions import PRELIMINARY
from weather_scnn.io.vertical_axis import UNCLEAR_NAMES, kind_of_axis, says_pressure

#: What files call the axes, by their canonical names, in lower case; vertical axes are told apart in `vertical_axis`.
AXIS_NAMES = {
    "latitude": ("latitude", "lat", "nav_lat", "ylat", "g0_lat_1"),
    "longitude": ("longitude", "lon", "long", "nav_lon", "xlon", "g0_lon_2"),
    "valid_time": ("valid_time",),
    "time": (
        "time", "time_index", "date", "datetime", "init_time", "initial_time", "forecast_reference_time", "init",
    ),
    "step": ("step", "forecast_period"),
    "prediction_timedelta": ("prediction_timedelta", "lead_time", "lead", "leadtime"),
    "number": ("number", "member", "realization", "ensemble", "ensemble_member", "sample"),
}  # fmt: skip
_BY_LOWER = {name: role for role, names in AXIS_NAMES.items() for name in names}
_STANDARD = {"latitude": "latitude", "longitude": "longitude", "realization": "number"}
_UNITS = {
    "degrees_north": "latitude",
    "degree_north": "latitude",
    "degrees_east": "longitude",
    "degree_east": "longitude",
}

# Grids of GRIB that are no rows and columns of latitude and longitude.
_GRID_TYPES = {
    "reduced_gg": "a reduced Gaussian grid",
    "reduced_ll": "a reduced latitude x longitude grid",
    "rotated_ll": "a rotated latitude x longitude grid",
    "rotated_gg": "a rotated Gaussian grid",
    "lambert": "a Lambert projection",
    "lambert_azimuthal_equal_area": "a Lambert projection",
    "polar_stereographic": "a polar stereographic projection",
    "mercator": "a Mercator projection",
    "healpix": "a HEALPix grid",
    "unstructured_grid": "an unstructured grid",
}
REGULAR_FIRST = (
    "bring the file to a latitude x longitude grid first, for example with `cdo setgridtype,regular` or by asking the "
    "archive for a regular grid"
)
#: Vertical axes that are no pressures carry their kind in their name.
KIND_MARK = "|"


def _role(name: str, variable: xr.Variable) -> str | None:
    role = _BY_LOWER.get(name.lower()) or _STANDARD.get(str(variable.attrs.get("standard_name", "")).lower())
    role = role or _UNITS.get(str(variable.attrs.get("units", "")).lower())
    if role is not None or (name.lower() == "lev" and variable.ndim == 0):
        return role  # a single lev is cdo's generic level of surface fields
    kind = kind_of_axis(name, variable)
    return "level" if kind == "pressure" else f"{kind}{KIND_MARK}{name}" if kind is not None else None


def _pressures_as_axis(dataset: xr.Dataset) -> xr.Dataset:
    """Pressures that a file gives beside an axis called `level`, of which it says nothing, as the values of that axis."""
    for name, variable in dataset.variables.items():
        dim = str(variable.dims[0]) if variable.ndim == 1 else ""
        if dim.lower() not in UNCLEAR_NAMES or dim == name or kind_of_axis(str(name), variable) != "pressure":
            continue
        if not {"units", "standard_name", "long_name"} & set(dataset[dim].attrs):
            dataset = dataset.drop_vars(dim, errors="ignore").swap_dims({dim: name}).rename({name: dim})
            dataset[dim].attrs.setdefault("standard_name", "air_pressure")
            return dataset
    return dataset


def _numbered_axes(dataset: xr.Dataset, rename: dict[str, str]) -> None:
    """Adds axes that bear a number, as THREDDS servers call them (time1, isobaric3), where none is named plainly."""
    for dim in map(str, dataset.dims):
        plain = dim.lower().rstrip("0123456789")
        if dim in rename or plain == dim.lower() or dim not in dataset.variables:
            continue
        variable = dataset[dim].variable
        role = _BY_LOWER.get(plain) or ("level" if kind_of_axis(plain, variable) == "pressure" else None)
        if role is not None and role not in rename.values():
            rename[dim] = role


def name_axes(dataset: xr.Dataset, where: str) -> xr.Dataset:
    """Renames coordinates and dimensions to the canonical names, and drops other coordinates.

    Raises:
        UserError: latitudes and longitudes are two-dimensional, or two axes claim one name.
    """
    rename: dict[str, str] = {}
    dataset = _pressures_as_axis(dataset)
    for name, variable in dataset.variables.items():
        name = str(name)
        role = _role(name, variable)
        if role is not None and (role == "level" or KIND_MARK in role) and variable.dims not in ((), (name,)):
            continue  # says more of another axis
        if name not in dataset.coords and name not in dataset.dims and not (role == "level" and variable.ndim == 0):
            if name.lower() not in _BY_LOWER or variable.ndim == 0:
                continue
        if role in ("latitude", "longitude") and variable.ndim == 2:
            if {"latitude", "longitude"} <= {_BY_LOWER.get(str(dim).lower()) for dim in variable.dims}:
                continue  # a map of coordinates that the axes have as well
            raise UserError(
                f"{name} is two-dimensional: the grid is curvilinear",
                where=where,
                remedy="bring the file to a latitude x longitude grid first, for example with `cdo remapcon`",
            )
        if role in ("latitude", "longitude") and variable.ndim == 1 and variable.dims[0] != name:
            along = str(variable.dims[0])
            others = {str(dim) for each, other in dataset.variables.items() for dim in other.dims if each != name
                      and _role(str(each), other) in ("latitude", "longitude")}  # fmt: skip
            if along in others:
                types = {str(each.attrs.get("GRIB_gridType")) for each in dataset.values()} & set(_GRID_TYPES)
                grid = " and ".join(_GRID_TYPES[each] for each in sorted(types))
                raise UserError(
                    f"{name} runs along {along} with the other coordinate: "
                    f"{grid or 'a reduced Gaussian or unstructured grid'}",
                    where=where,
                    remedy=REGULAR_FIRST,
                )
        if (role is not None and variable.ndim <= 1) or role == "valid_time":
            rename[name] = str(role)
    for dim in dataset.dims:
        if dim not in dataset.variables:
            kind = kind_of_axis(str(dim), None)
            role = _BY_LOWER.get(str(dim).lower()) or ("level" if kind == "pressure" else None)
            if role is not None:
                rename.setdefault(str(dim), role)
            elif kind is not None or str(dim).lower() in UNCLEAR_NAMES:
                rename.setdefault(str(dim), f"{kind or 'unknown'}{KIND_MARK}{dim}")
    _numbered_axes(dataset, rename)
    for role in set(rename.values()):
        claimants = [name for name, each in rename.items() if each == role]
        if len(claimants) > 1:
            axes = [name for name in claimants if name in dataset.dims]
            if role == "level" and len(axes) > 1:
                axes = [name for name in axes if says_pressure(name, dataset[name].attrs)] or axes
            if len(axes) > 1:
                raise UserError(
                    f"{' and '.join(axes)} are both a {role} axis", where=where, remedy="keep one of them in the file"
                )
            for name in claimants:
                if name not in (axes or claimants[:1]):
                    del rename[name]
    dataset = dataset.drop_vars([name for name in dataset.coords if name not in rename and name != PRELIMINARY])
    dataset = dataset.rename({name: role for name, role in rename.items() if name != role})
    if "level" in dataset.variables:
        # What the axis was called may have told that it is a pressure; its new name does not.
        dataset["level"].attrs.setdefault("standard_name", "air_pressure")
    if "valid_time" in dataset.dims:
        # A CDS file of today: valid_time is the axis, and time, if there, something else.
        dataset = dataset.drop_vars("time", errors="ignore").rename({"valid_time": "time"})
    elif "valid_time" in dataset.variables and "time" not in dataset.variables:
        dataset = dataset.rename({"valid_time": "time"})
    for axis in ("latitude", "longitude"):
        if axis in dataset.dims and axis not in dataset.variables:
            raise UserError(f"the {axis} axis has no coordinate values", where=where, remedy="add them to the file")
        if axis not in dataset.dims and axis in dataset.variables and dataset[axis].ndim == 0:
            dataset = dataset.expand_dims(axis)
        if axis not in dataset.dims and "sh" in {each.attrs.get("GRIB_gridType") for each in dataset.values()}:
            raise UserError(
                "holds spherical-harmonic coefficients, not values on a grid",
                where=where,
                remedy="ask the archive for a regular grid, or transform with `cdo sp2gpl` first",
            )
        if axis not in dataset.dims:
            raise UserError(
                f"there is no {axis} axis among ({', '.join(map(str, dataset.dims))})",
                where=where,
                remedy="give data on a latitude x longitude grid, with axes named latitude and longitude",
            )
    known = ("latitude", "longitude", "level", "time", "step", "prediction_timedelta", "number")
    coordinates = [name for name in known if name in dataset]
    return dataset.set_coords(coordinates)
