"""The table of variables: names of every kind of source, unit, kind and plausible range.

The WeatherBench 2 long names are those of the CDS with underscores. Short names and paramIds are those of ECMWF's
parameter database (a test holds them against eccodes), CMIP names those of the CF standard-name table; z500-like names
with the level in them are taken apart in `level_names`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["instant", "accumulated", "static", "forcing"]

#: Eastward component of each wind → its northward component.
WIND_PAIRS: dict[str, str] = {
    "u_component_of_wind": "v_component_of_wind",
    "10m_u_component_of_wind": "10m_v_component_of_wind",
    "100m_u_component_of_wind": "100m_v_component_of_wind",
    "10m_u_component_of_neutral_wind": "10m_v_component_of_neutral_wind",
    "eastward_turbulent_surface_stress": "northward_turbulent_surface_stress",
    "vertical_integral_of_eastward_water_vapour_flux": "vertical_integral_of_northward_water_vapour_flux",
}
#: The other component of each.
PARTNERS = {**WIND_PAIRS, **{v: u for u, v in WIND_PAIRS.items()}}


@dataclasses.dataclass(frozen=True)
class Variable:
    """What is known about a variable before any file is opened.

    Attributes:
        name: WeatherBench 2 long name.
        unit: SI unit that fields have inside this package, CF spelling.
        kind: instant values, accumulations over a window, static maps, or forcings known in advance.
        plausible: lowest and highest value on Earth in `unit`, over all levels, with room for analysis noise.
        long_name: for people and the `long_name` attribute.
        short_names: ERA5, WeatherBench 1, GFS, CMIP and dynamical.org names.
        param_ids: ECMWF paramIds.
        standard_name: CF standard name, empty where there is none.
        on_levels: whether it is a field on pressure levels.
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
    window_hours: int | None = None
    assumed_units: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, Any]:
        """CF attributes of a field of this variable, with `accumulation_hours` of a total."""
        named: dict[str, Any] = {"long_name": self.long_name, "units": self.unit}
        if self.standard_name:
            named["standard_name"] = self.standard_name
        if self.window_hours is not None:
            named["accumulation_hours"] = self.window_hours
        return named

    @property
    def partner(self) -> str | None:
        """The other component of a vector; see `WIND_PAIRS`."""
        return PARTNERS.get(self.name)

    @property
    def display_unit(self) -> str:
        """Unit in which people read it; see `display`."""
        if self.kind == "accumulated" and self.unit == "m":
            return "mm"
        if self.unit == "m2 s-2":
            return "m" if self.kind == "static" else "gpdam"
        if self.plausible == _FRACTION or "relative_humidity" in self.name:
            return "%"
        return _DISPLAY.get(self.unit, self.unit)

    @property
    def never_negative(self) -> bool:
        """Whether a negative value can only be an artefact: of packing, of interpolation, or of a network.

        The plausible range of amounts and fractions often reaches a little below zero, since analyses hold such values.
        """
        return self.plausible[0] == 0 or self.plausible == _FRACTION or self.name.startswith(_AMOUNTS)


def _levels(name: str, unit: str, plausible: tuple[float, float], short: str, *ids: int, **more: Any) -> Variable:
    long_name = name.replace("_", " ")
    return Variable(name, unit, "instant", plausible, long_name, tuple(short.split()), ids, on_levels=True, **more)


def _surface(
    name: str,
    unit: str,
    plausible: tuple[float, float],
    short: str,
    *ids: int,
    kind: Kind = "instant",
    **more: Any,
) -> Variable:
    return Variable(name, unit, kind, plausible, name.replace("_", " "), tuple(short.split()), ids, **more)


def _hourly(name: str, unit: str, plausible: tuple[float, float], short: str, *ids: int, **more: Any) -> Variable:
    return _surface(name, unit, plausible, short, *ids, kind="accumulated", window_hours=1, **more)


def _static(name: str, unit: str, plausible: tuple[float, float], short: str, *ids: int, **more: Any) -> Variable:
    return _surface(name, unit, plausible, short, *ids, kind="static", **more)


_HEIGHTS = dict.fromkeys(("gh", "hgt", "zg", "geopotential_height", "z3"), "m")
_RELIEF = dict.fromkeys(("orog", "orography", "topography", "hsurf", "rose"), "m")
_FRACTION = (-0.01, 1.01)
_DISPLAY = {"K": "degC", "Pa": "hPa", "kg kg-1": "g kg-1", "K m2 kg-1 s-1": "PVU"}
_AMOUNTS = (
    "specific_humidity", "relative_humidity", "2m_specific_humidity", "2m_relative_humidity", "specific_cloud_",
    "specific_rain_", "specific_snow_", "ozone_mass_mixing_ratio", "total_column_", "snow_depth",
    "convective_available_potential_energy",
)  # fmt: skip
_WATER = (0.0, 0.3)
_GROUND = (165.0, 365.0)

VARIABLES: tuple[Variable, ...] = (
    # On pressure levels, 1 hPa to 1000 hPa.
    _levels(
        "geopotential", "m2 s-2", (-1.2e4, 5.5e5), "z phi gh hgt zg geopotential_height z3", 129, 156,
        standard_name="geopotential", assumed_units=_HEIGHTS,
    ),
    _levels("temperature", "K", (130, 350), "t ta tmp", 130, standard_name="air_temperature"),
    _levels("u_component_of_wind", "m s-1", (-250, 250), "u ua ugrd wind_u", 131, standard_name="eastward_wind"),
    _levels("v_component_of_wind", "m s-1", (-250, 250), "v va vgrd wind_v", 132, standard_name="northward_wind"),
    _levels(
        "vertical_velocity", "Pa s-1", (-60, 60), "w wap omega vvel", 135,
        standard_name="lagrangian_tendency_of_air_pressure",
    ),
    _levels("specific_humidity", "kg kg-1", (-0.005, 0.05), "q hus spfh", 133, standard_name="specific_humidity"),
    _levels("relative_humidity", "1", (-0.3, 2.0), "r rh hur", 157, standard_name="relative_humidity"),
    _levels("wind_speed", "m s-1", (0, 260), "ws", 10, standard_name="wind_speed"),
    _levels("vorticity", "s-1", (-0.01, 0.01), "vo vort", 138, standard_name="atmosphere_upward_relative_vorticity"),
    _levels("divergence", "s-1", (-0.01, 0.01), "d div", 155, standard_name="divergence_of_wind"),
    _levels("potential_vorticity", "K m2 kg-1 s-1", (-0.1, 0.1), "pv", 60),
    _levels("fraction_of_cloud_cover", "1", _FRACTION, "cc", 248),
    _levels("specific_cloud_ice_water_content", "kg kg-1", (-1e-4, 0.05), "ciwc", 247),
    _levels("specific_cloud_liquid_water_content", "kg kg-1", (-1e-4, 0.05), "clwc", 246),
    _levels("specific_rain_water_content", "kg kg-1", (-1e-4, 0.05), "crwc", 75),
    _levels("specific_snow_water_content", "kg kg-1", (-1e-4, 0.05), "cswc", 76),
    _levels("ozone_mass_mixing_ratio", "kg kg-1", (-1e-6, 1e-3), "o3 o3mr", 203),
    # Near the surface.
    _surface("2m_temperature", "K", (170, 340), "t2m 2t tas t2 t_2m temperature_2m", 167, standard_name="air_temperature"),
    _surface("2m_dewpoint_temperature", "K", (150, 320), "d2m 2d dew_point_temperature_2m", 168, standard_name="dew_point_temperature"),
    _surface("2m_relative_humidity", "1", (-0.1, 1.3), "r2 2r hurs relative_humidity_2m", 260242, standard_name="relative_humidity"),
    _surface(
        "2m_specific_humidity", "kg kg-1", (-0.001, 0.05), "sh2 2sh huss q2m", 174096,
        standard_name="specific_humidity",
    ),
    _surface(
        "10m_u_component_of_wind", "m s-1", (-120, 120), "u10 10u uas u_10m u10m wind_u_10m", 165, standard_name="eastward_wind"
    ),
    _surface(
        "10m_v_component_of_wind", "m s-1", (-120, 120), "v10 10v vas v_10m v10m wind_v_10m", 166, standard_name="northward_wind"
    ),
    _surface("100m_u_component_of_wind", "m s-1", (-140, 140), "u100 100u u100m wind_u_100m", 228246),
    _surface("100m_v_component_of_wind", "m s-1", (-140, 140), "v100 100v v100m wind_v_100m", 228247),
    _surface("10m_u_component_of_neutral_wind", "m s-1", (-120, 120), "u10n", 228131),
    _surface("10m_v_component_of_neutral_wind", "m s-1", (-120, 120), "v10n", 228132),
    _surface("10m_wind_speed", "m s-1", (0, 160), "si10 10si sfcwind ws10 ws10m", 207, standard_name="wind_speed"),
    _surface("100m_wind_speed", "m s-1", (0, 180), "si100 100si ws100m", 228249, standard_name="wind_speed"),
    _surface("10m_wind_gust_since_previous_post_processing", "m s-1", (0, 180), "fg10 10fg", 49),
    _surface("instantaneous_10m_wind_gust", "m s-1", (0, 180), "i10fg", 228029),
    _surface(
        "mean_sea_level_pressure", "Pa", (8.5e4, 1.1e5), "msl mslp prmsl psl slp pressure_reduced_to_mean_sea_level", 151, 260074,
        standard_name="air_pressure_at_mean_sea_level",
    ),
    _surface("surface_pressure", "Pa", (4.5e4, 1.12e5), "sp ps pres_sfc pressure_surface", 134, standard_name="surface_air_pressure"),
    _surface("maximum_2m_temperature_since_previous_post_processing", "K", (170, 345), "mx2t", 201),
    _surface("minimum_2m_temperature_since_previous_post_processing", "K", (165, 340), "mn2t", 202),
    _surface(
        "sea_surface_temperature", "K", (265, 312), "sst tos", 34, 151159, standard_name="sea_surface_temperature"
    ),
    _surface("sea_ice_cover", "1", _FRACTION, "ci siconc sic icec", 31, standard_name="sea_ice_area_fraction"),
    _surface("skin_temperature", "K", _GROUND, "skt ts", 235, standard_name="surface_temperature"),
    _surface("snow_depth", "m", (-0.01, 12), "sd", 141, 228141),
    _surface("snow_density", "kg m-3", (50, 1000), "rsn", 33),
    _surface("snow_albedo", "1", _FRACTION, "asn", 32),
    _surface("temperature_of_snow_layer", "K", _GROUND, "tsn", 238),
    _surface("total_cloud_cover", "1", _FRACTION, "tcc clt total_cloud_cover_atmosphere", 164, 228164, standard_name="cloud_area_fraction"),
    _surface("low_cloud_cover", "1", _FRACTION, "lcc", 186, 3073),
    _surface("medium_cloud_cover", "1", _FRACTION, "mcc", 187, 3074),
    _surface("high_cloud_cover", "1", _FRACTION, "hcc", 188, 3075),
    _surface("total_column_water_vapour", "kg m-2", (-0.5, 120), "tcwv prw pwat precipitable_water_atmosphere", 137, 3054),
    _surface("total_column_water", "kg m-2", (-0.5, 150), "tcw", 136),
    _surface("total_column_cloud_liquid_water", "kg m-2", (-0.1, 20), "tclw", 78),
    _surface("total_column_cloud_ice_water", "kg m-2", (-0.1, 20), "tciw", 79),
    _surface("total_column_rain_water", "kg m-2", (-0.1, 40), "tcrw", 228089),
    _surface("total_column_snow_water", "kg m-2", (-0.1, 40), "tcsw", 228090),
    _surface("total_column_ozone", "kg m-2", (0, 0.02), "tco3", 206),
    _surface("convective_available_potential_energy", "J kg-1", (-1, 2e4), "cape", 59),
    _surface("boundary_layer_height", "m", (0, 1e4), "blh", 159),
    _surface("charnock", "1", (0, 1), "chnk", 148),
    _surface("forecast_albedo", "1", _FRACTION, "fal", 243),
    _surface("forecast_surface_roughness", "m", (0, 20), "fsr", 244),
    _surface("vertical_integral_of_eastward_water_vapour_flux", "kg m-1 s-1", (-5e3, 5e3), "viwve", 162071),
    _surface("vertical_integral_of_northward_water_vapour_flux", "kg m-1 s-1", (-5e3, 5e3), "viwvn", 162072),
    *(
        _surface(f"volumetric_soil_water_layer_{layer}", "m3 m-3", _FRACTION, f"swvl{layer}", 38 + layer)
        for layer in (1, 2, 3, 4)
    ),
    *(
        _surface(f"soil_temperature_level_{layer}", "K", (180, 350), f"stl{layer}", param_id)
        for layer, param_id in ((1, 139), (2, 170), (3, 183), (4, 236))
    ),
    _surface("significant_height_of_combined_wind_waves_and_swell", "m", (0, 30), "swh", 140229),
    _surface("mean_wave_period", "s", (0, 40), "mwp", 140232),
    # Accumulations. A negative total of water is an artefact of packing: clipped where sums are made, counted by
    # `check`.
    _hourly(
        "total_precipitation", "m", _WATER, "tp apcp", 228, 228228,
        standard_name="lwe_thickness_of_precipitation_amount",
    ),
    *(
        _surface(
            f"total_precipitation_{hours}hr", "m", (0, limit), f"tp{hours} tp{hours}h tp{hours:02d}",
            kind="accumulated", window_hours=hours, standard_name="lwe_thickness_of_precipitation_amount",
        )
        for hours, limit in ((6, 0.8), (12, 1.2), (24, 2.0))
    ),
    _hourly("convective_precipitation", "m", _WATER, "cp acpcp", 143, 228143),
    _hourly("large_scale_precipitation", "m", _WATER, "lsp", 142, 3062),
    _hourly("snowfall", "m", _WATER, "sf", 144, 228144),
    _hourly("snowmelt", "m", _WATER, "smlt", 45),
    _hourly("runoff", "m", (0, 1), "ro", 205),
    _hourly("surface_runoff", "m", (0, 1), "sro", 8),
    _hourly("sub_surface_runoff", "m", (0, 1), "ssro", 9),
    _hourly("evaporation", "m", (-0.01, 0.01), "e", 182),
    _hourly("potential_evaporation", "m", (-0.02, 0.02), "pev", 228251),
    _hourly("surface_solar_radiation_downwards", "J m-2", (0, 5.2e6), "ssrd", 169),
    _hourly("surface_thermal_radiation_downwards", "J m-2", (0, 2.5e6), "strd", 175),
    _hourly("surface_net_solar_radiation", "J m-2", (0, 5.2e6), "ssr", 176),
    _hourly("surface_net_thermal_radiation", "J m-2", (-2.5e6, 2.5e6), "str", 177),
    _hourly("top_net_solar_radiation", "J m-2", (0, 5.2e6), "tsr", 178),
    _hourly("top_net_thermal_radiation", "J m-2", (-2.5e6, 1e4), "ttr", 179),
    _hourly("surface_sensible_heat_flux", "J m-2", (-1e7, 1e7), "sshf", 146),
    _hourly("surface_latent_heat_flux", "J m-2", (-1e7, 1e7), "slhf", 147),
    _hourly("eastward_turbulent_surface_stress", "N m-2 s", (-1e5, 1e5), "ewss", 180),
    _hourly("northward_turbulent_surface_stress", "N m-2 s", (-1e5, 1e5), "nsss", 181),
    # Known in advance.
    _surface(
        "toa_incident_solar_radiation", "J m-2", (0, 5.2e6), "tisr", 212, kind="forcing", window_hours=1,
    ),
    # Static.
    _static(
        "geopotential_at_surface", "m2 s-2", (-6e3, 9e4),
        "zsl zs z_sfc phis surface_geopotential orog orography topography hsurf rose", 228002,
        standard_name="surface_geopotential", assumed_units=_RELIEF,
    ),
    _static("land_sea_mask", "1", _FRACTION, "lsm sftlf land", 172, standard_name="land_binary_mask"),
    _static("soil_type", "1", (0, 20), "slt", 43),
    _static("lake_cover", "1", _FRACTION, "cl", 26),
    _static("lake_depth", "m", (0, 2000), "dl", 228007),
    _static("high_vegetation_cover", "1", _FRACTION, "cvh", 28),
    _static("low_vegetation_cover", "1", _FRACTION, "cvl", 27),
    _static("type_of_high_vegetation", "1", (0, 30), "tvh", 30),
    _static("type_of_low_vegetation", "1", (0, 30), "tvl", 29),
    _static("standard_deviation_of_orography", "m", (0, 2000), "sdor", 160),
    _static("standard_deviation_of_filtered_subgrid_orography", "m", (0, 2000), "sdfor", 74),
    _static("angle_of_sub_gridscale_orography", "1", (-4, 4), "anor", 162),
    _static("anisotropy_of_sub_gridscale_orography", "1", (-0.1, 1.1), "isor", 161),
    _static("slope_of_sub_gridscale_orography", "1", (-0.01, 1), "slor", 163),
)  # fmt: skip
