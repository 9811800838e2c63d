import pytest

from weather_scnn.catalogue.naming import VARIABLES, catalogue_order, find, identify, lookup, window_name
from weather_scnn.catalogue.units import conversion, parse_unit
from weather_scnn.errors import UserError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("z", "geopotential"),
        ("t", "temperature"),
        ("Temperature", "temperature"),
        ("u", "u_component_of_wind"),
        ("w", "vertical_velocity"),
        ("q", "specific_humidity"),
        ("t2m", "2m_temperature"),
        ("2t", "2m_temperature"),
        ("2m temperature", "2m_temperature"),
        ("10u", "10m_u_component_of_wind"),
        ("u10", "10m_u_component_of_wind"),
        ("10v", "10m_v_component_of_wind"),
        ("msl", "mean_sea_level_pressure"),
        ("tp", "total_precipitation"),
        ("sp", "surface_pressure"),
        ("sst", "sea_surface_temperature"),
        ("ci", "sea_ice_cover"),
        ("siconc", "sea_ice_cover"),
        ("lsm", "land_sea_mask"),
        ("zsl", "geopotential_at_surface"),
        ("tisr", "toa_incident_solar_radiation"),
        ("total_precipitation_6hr", "total_precipitation_6hr"),
    ],
)
def test_names_of_every_kind_find_the_weatherbench_name(name, expected):
    assert find(name).name == expected


def test_an_unknown_name_is_told_its_nearest():
    with pytest.raises(UserError, match="did you mean geopotential"):
        find("geopotental")
    assert lookup("my_own_field") is None


def test_a_level_less_z_is_the_surface_geopotential_and_grib_ids_name_odd_fields():
    # earth2studio#476
    on_levels = identify("z", {}, on_levels=True)
    at_surface = identify("z", {}, on_levels=False)
    assert on_levels is not None and on_levels.name == "geopotential"
    assert at_surface is not None and at_surface.name == "geopotential_at_surface"
    spelled_out = identify("geopotential", {}, on_levels=False)
    assert spelled_out is not None and spelled_out.name == "geopotential"
    odd = identify("var167", {"GRIB_paramId": 167}, on_levels=False)
    assert odd is not None and odd.name == "2m_temperature"


def test_wind_pairs_point_at_each_other_and_ranges_are_ordered():
    for variable in VARIABLES:
        assert variable.plausible[0] < variable.plausible[1]
        assert parse_unit(variable.unit) is not None
        if variable.partner:
            assert find(variable.partner).partner == variable.name


@pytest.mark.parametrize(
    ("source", "target", "scale", "offset"),
    [
        ("m**2 s**-2", "m2 s-2", 1, 0),
        ("m^2/s^2", "m2 s-2", 1, 0),
        ("m² s⁻²", "m2 s-2", 1, 0),
        ("J kg-1", "m2 s-2", 1, 0),
        ("gpm", "m2 s-2", 9.80665, 0),
        ("m", "m2 s-2", 9.80665, 0),
        ("hPa", "Pa", 100, 0),
        ("millibars", "Pa", 100, 0),
        ("degC", "K", 1, 273.15),
        ("mm", "m", 1e-3, 0),
        ("kg m**-2", "m", 1e-3, 0),
        ("g/kg", "kg kg-1", 1e-3, 0),
        ("kg kg**-1", "kg kg-1", 1, 0),
        ("%", "1", 0.01, 0),
        ("(0 - 1)", "1", 1, 0),
        ("km/h", "m s-1", 1 / 3.6, 0),
        ("hPa s-1", "Pa s-1", 100, 0),
        ("W m-2", "J m-2", 3600, 0),
    ],
)
def test_units_convert(source, target, scale, offset):
    assert conversion(source, target) == pytest.approx((scale, offset))


def test_units_of_another_quantity_do_not_convert():
    assert conversion("m s-1", "Pa s-1") is None  # bris-inference PR#241
    assert conversion("K", "Pa") is None
    with pytest.raises(ValueError, match="furlong"):
        conversion("furlong", "m")


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_param_ids_short_names_and_units_are_those_of_ecmwf(variable):
    """Held against the parameter database inside eccodes."""
    eccodes = pytest.importorskip("eccodes")
    for param_id in variable.param_ids:
        edition = 1 if param_id < 1000 else 2
        message = eccodes.codes_grib_new_from_samples(f"regular_ll_sfc_grib{edition}")
        eccodes.codes_set(message, "paramId", param_id)
        short, cf_name, units = (eccodes.codes_get(message, key) for key in ("shortName", "cfVarName", "units"))
        eccodes.codes_release(message)
        assert {short.lower(), cf_name.lower()} & set(variable.short_names)
        assert identify("unnamed", {"GRIB_paramId": param_id}, on_levels=variable.on_levels) == variable
        assert conversion(units, variable.unit) is not None
        converts = {"gpm", "%", "kg m**-2", "deg C", "m"} if variable.unit != "kg m-2" else set()
        assert units in converts or conversion(units, variable.unit) == (1.0, 0.0)


def test_totals_over_other_windows_are_variables_too():
    six = find("surface_solar_radiation_downwards_6hr")
    assert six.window_hours == 6 and six.plausible == (0, 6 * 5.2e6) and six.unit == "J m-2"
    assert window_name("total_precipitation", 6) == "total_precipitation_6hr"
    assert window_name("total_precipitation_6hr", 1) == "total_precipitation"
    assert find("total_precipitation_6hr").attributes["accumulation_hours"] == 6
    assert lookup("2m_temperature_6hr") is None
    names = ["own_field", "total_precipitation_3hr", "temperature", "total_precipitation"]
    assert sorted(names, key=catalogue_order) == [names[2], names[3], names[1], names[0]]
