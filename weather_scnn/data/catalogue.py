"""One table of variables: names of every kind of source → WeatherBench 2 name, unit, kind and plausible range.

The WeatherBench 2 long names are those of the CDS with underscores. Short names and paramIds are ECMWF's parameter
database, CMIP names the CF standard-name table.
"""

import dataclasses
import difflib
import functools
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from weather_scnn.errors import UserError

Kind = Literal["instant", "accumulated", "static", "forcing"]


@dataclasses.dataclass(frozen=True)
class Variable:
    """What is known about a variable before any file is opened.

    Attributes:
        name: WeatherBench 2 long name.
        unit: SI unit that fields have inside this package, CF spelling.
        kind: instant values, accumulations over a window, static maps, or forcings known in advance.
        plausible: lowest and highest value on Earth in `unit`, over all levels, with room for analysis noise.
        long_name: for people and the `long_name` attribute.
        short_names: ERA5, WeatherBench 1, GFS and CMIP names.
        param_ids: ECMWF paramIds.
        standard_name: CF standard name, empty where there is none.
        on_levels: whether it is a field on pressure levels.
        partner: the other component of a wind vector.
        window_hours: length of an accumulation; ERA5 publishes hourly totals.
        assumed_units: unit of a short name that means another quantity, such as gh, a height.
    """

    name: str
    unit: str
    kind: Kind
    plausible: tuple[float, float]
    long_name: str
    short_names: tuple[str, ...] = ()
    param_ids: tuple[int, ...] = ()
    standard_name: str = ""
    on_levels: bool = False
    partner: str | None = None
    window_hours: int | None = None
    assumed_units: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, str]:
        """CF attributes of a field of this variable."""
        named = {"long_name": self.long_name, "units": self.unit}
        return {**named, "standard_name": self.standard_name} if self.standard_name else named


def _levels(name: str, unit: str, plausible: tuple[float, float], short: str, ids: tuple[int, ...], **more: Any):
    long_name = name.replace("_", " ")
    return Variable(name, unit, "instant", plausible, long_name, tuple(short.split()), ids, on_levels=True, **more)


def _surface(
    name: str,
    unit: str,
    plausible: tuple[float, float],
    short: str,
    ids: tuple[int, ...],
    kind: Kind = "instant",
    **more,
):
    return Variable(name, unit, kind, plausible, name.replace("_", " "), tuple(short.split()), ids, **more)


def _hourly(name: str, unit: str, plausible: tuple[float, float], short: str, ids: tuple[int, ...], **more: Any):
    return _surface(name, unit, plausible, short, ids, "accumulated", window_hours=1, **more)


_HEIGHTS = dict.fromkeys(("gh", "hgt", "zg", "geopotential_height", "z3"), "m")
_RELIEF = dict.fromkeys(("orog", "orography", "topography", "hsurf", "rose"), "m")
_FRACTION = (-0.01, 1.01)

VARIABLES: tuple[Variable, ...] = (
    # On pressure levels, 1 hPa to 1000 hPa.
    _levels(
        "geopotential",
        "m2 s-2",
        (-1.2e4, 5.5e5),
        "z phi gh hgt zg geopotential_height z3",
        (129, 156),
        standard_name="geopotential",
        assumed_units=_HEIGHTS,
    ),
    _levels("temperature", "K", (130, 350), "t ta tmp", (130,), standard_name="air_temperature"),
    _levels(
        "u_component_of_wind",
        "m s-1",
        (-250, 250),
        "u ua ugrd",
        (131,),
        standard_name="eastward_wind",
        partner="v_component_of_wind",
    ),
    _levels(
        "v_component_of_wind",
        "m s-1",
        (-250, 250),
        "v va vgrd",
        (132,),
        standard_name="northward_wind",
        partner="u_component_of_wind",
    ),
    _levels(
        "vertical_velocity",
        "Pa s-1",
        (-60, 60),
        "w wap omega vvel",
        (135,),
        standard_name="lagrangian_tendency_of_air_pressure",
    ),
    _levels("specific_humidity", "kg kg-1", (-0.005, 0.05), "q hus spfh", (133,), standard_name="specific_humidity"),
    _levels("relative_humidity", "1", (-0.3, 2.0), "r rh hur", (157,), standard_name="relative_humidity"),
    _levels("vorticity", "s-1", (-0.01, 0.01), "vo vort", (138,), standard_name="atmosphere_relative_vorticity"),
    _levels("divergence", "s-1", (-0.01, 0.01), "d div", (155,), standard_name="divergence_of_wind"),
    _levels("potential_vorticity", "K m2 kg-1 s-1", (-0.1, 0.1), "pv", (60,)),
    _levels("fraction_of_cloud_cover", "1", _FRACTION, "cc", (248,)),
    _levels("specific_cloud_ice_water_content", "kg kg-1", (-1e-4, 0.05), "ciwc", (247,)),
    _levels("specific_cloud_liquid_water_content", "kg kg-1", (-1e-4, 0.05), "clwc", (246,)),
    _levels("ozone_mass_mixing_ratio", "kg kg-1", (-1e-6, 1e-3), "o3", (203,)),
    # Near the surface.
    _surface("2m_temperature", "K", (170, 340), "t2m 2t tas t2 t_2m", (167,), standard_name="air_temperature"),
    _surface("2m_dewpoint_temperature", "K", (150, 320), "d2m 2d", (168,), standard_name="dew_point_temperature"),
    _surface(
        "10m_u_component_of_wind",
        "m s-1",
        (-120, 120),
        "u10 10u uas u_10m u10m",
        (165,),
        standard_name="eastward_wind",
        partner="10m_v_component_of_wind",
    ),
    _surface(
        "10m_v_component_of_wind",
        "m s-1",
        (-120, 120),
        "v10 10v vas v_10m v10m",
        (166,),
        standard_name="northward_wind",
        partner="10m_u_component_of_wind",
    ),
    _surface(
        "100m_u_component_of_wind", "m s-1", (-140, 140), "u100 100u", (228246,), partner="100m_v_component_of_wind"
    ),
    _surface(
        "100m_v_component_of_wind", "m s-1", (-140, 140), "v100 100v", (228247,), partner="100m_u_component_of_wind"
    ),
    _surface("10m_wind_speed", "m s-1", (0, 160), "si10 10si sfcwind ws10", (207,), standard_name="wind_speed"),
    _surface(
        "mean_sea_level_pressure",
        "Pa",
        (8.5e4, 1.1e5),
        "msl mslp prmsl psl slp",
        (151, 260074),
        standard_name="air_pressure_at_mean_sea_level",
    ),
    _surface("surface_pressure", "Pa", (4.5e4, 1.12e5), "sp ps pres_sfc", (134,), standard_name="surface_air_pressure"),
    _surface(
        "sea_surface_temperature", "K", (265, 312), "sst tos", (34, 151159), standard_name="sea_surface_temperature"
    ),
    _surface("sea_ice_cover", "1", _FRACTION, "ci siconc sic icec", (31,), standard_name="sea_ice_area_fraction"),
    _surface("skin_temperature", "K", (165, 365), "skt ts", (235,), standard_name="surface_temperature"),
    _surface("snow_depth", "m", (-0.01, 12), "sd", (141,)),
    _surface("total_cloud_cover", "1", _FRACTION, "tcc clt", (164,), standard_name="cloud_area_fraction"),
    _surface("total_column_water_vapour", "kg m-2", (-0.5, 120), "tcwv prw", (137,)),
    _surface("total_column_water", "kg m-2", (-0.5, 150), "tcw", (136,)),
    _surface("boundary_layer_height", "m", (0, 1e4), "blh", (159,)),
    _surface("volumetric_soil_water_layer_1", "m3 m-3", (-0.01, 1.01), "swvl1", (39,)),
    _surface("soil_temperature_level_1", "K", (180, 350), "stl1", (139,)),
    # Accumulations. A negative total is an artefact of packing: clipped where sums are made, counted by `check`.
    _hourly(
        "total_precipitation", "m", (0, 0.3), "tp apcp", (228,), standard_name="lwe_thickness_of_precipitation_amount"
    ),
    *(
        _surface(
            f"total_precipitation_{hours}hr",
            "m",
            (0, limit),
            f"tp{hours} tp{hours}h",
            (),
            "accumulated",
            window_hours=hours,
        )
        for hours, limit in ((6, 0.8), (12, 1.2), (24, 2.0))
    ),
    _hourly("surface_solar_radiation_downwards", "J m-2", (-1e4, 5.2e6), "ssrd", (169,)),
    _hourly("surface_thermal_radiation_downwards", "J m-2", (-1e4, 2.5e6), "strd", (175,)),
    _hourly("top_net_thermal_radiation", "J m-2", (-2.5e6, 1e4), "ttr", (179,)),
    _hourly("evaporation", "m", (-0.01, 0.01), "e", (182,)),
    # Known in advance.
    _surface(
        "toa_incident_solar_radiation",
        "J m-2",
        (0, 5.2e6),
        "tisr",
        (212,),
        "forcing",
        window_hours=1,
        standard_name="integral_wrt_time_of_toa_incoming_shortwave_flux",
    ),
    # Static.
    _surface(
        "geopotential_at_surface",
        "m2 s-2",
        (-6e3, 9e4),
        "zsl zs z_sfc phis surface_geopotential orog orography topography hsurf rose",
        (),
        "static",
        standard_name="surface_geopotential",
        assumed_units=_RELIEF,
    ),
    _surface("land_sea_mask", "1", _FRACTION, "lsm sftlf land", (172,), "static", standard_name="land_binary_mask"),
    _surface("soil_type", "1", (0, 20), "slt", (43,), "static"),
    _surface("lake_cover", "1", _FRACTION, "cl", (26,), "static"),
    _surface("high_vegetation_cover", "1", _FRACTION, "cvh", (28,), "static"),
    _surface("low_vegetation_cover", "1", _FRACTION, "cvl", (27,), "static"),
    _surface("standard_deviation_of_orography", "m", (0, 2000), "sdor", (160,), "static"),
    _surface("angle_of_sub_gridscale_orography", "1", (-4, 4), "anor", (162,), "static"),
    _surface("anisotropy_of_sub_gridscale_orography", "1", (-0.1, 1.1), "isor", (161,), "static"),
    _surface("slope_of_sub_gridscale_orography", "1", (-0.01, 1), "slor", (163,), "static"),
)


@functools.cache
def _by_name() -> dict[str, Variable]:
    table: dict[str, Variable] = {}
    for variable in VARIABLES:
        for name in (variable.name, *variable.short_names):
            if table.setdefault(name, variable) is not variable:
                raise AssertionError(f"{name} names both {table[name].name} and {variable.name}")
    return table


@functools.cache
def _by_param_id() -> dict[int, Variable]:
    return {param_id: variable for variable in VARIABLES for param_id in variable.param_ids}


def catalogue_order(name: str) -> tuple[int, str]:
    """Sorting key: the order of VARIABLES, then other names by alphabet."""
    names = [variable.name for variable in VARIABLES]
    return (names.index(name) if name in names else len(names)), name


def nearest_name(name: str, names: Iterable[str]) -> str:
    """A remedy that names the nearest of `names`, or lists what there is."""
    names = sorted(set(names))
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"choose from {', '.join(names[:20])}{' …' if len(names) > 20 else ''}" if names else "there are none"


def lookup(name: str) -> Variable | None:
    """As `find`, but None for a name that the table does not hold."""
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    return _by_name().get(key)


def find(name: str) -> Variable:
    """The variable of a WeatherBench 2, CDS, ERA5 or CMIP name, in any case, with spaces or underscores.

    Raises:
        UserError: no such variable; the nearest name is given.
    """
    variable = lookup(name)
    if variable is None:
        names = [*_by_name()] if len(name) < 8 else [each.name for each in VARIABLES]
        raise UserError(f"no variable is called {name!r}", remedy=nearest_name(name, names))
    return variable


def identify(name: str, attributes: Mapping[str, Any], *, on_levels: bool) -> Variable | None:
    """The variable that a field in a file is, by its name, else by its GRIB paramId or short name.

    Args:
        name: what the file calls it.
        attributes: the field's attributes.
        on_levels: whether the field has a pressure-level axis; z without one is the surface geopotential
            (earth2studio#476).
    """
    variable = lookup(name)
    if variable is None and (param_id := attributes.get("GRIB_paramId")) is not None:
        variable = _by_param_id().get(int(param_id))
    for key in ("GRIB_shortName", "short_name"):
        if variable is None and isinstance(attributes.get(key), str):
            variable = lookup(attributes[key])
    if variable is not None and variable.name == "geopotential" and not on_levels:
        return _by_name()["geopotential_at_surface"]
    return variable
