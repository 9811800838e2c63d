"""What the page says to forecasters: places, members, probabilities, failures, in their units and in safe colours."""

import contextlib
import csv
import itertools

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from scipy.interpolate import RegularGridInterpolator

from eval.reporting import report_ensemble
from eval.reporting.figure_style import COLOURS
from eval.reporting.line_pictures import contour_pixels, spaghetti
from eval.reporting.report import write_report
from eval.reporting.report_places import KNOWN, Place, read_places
from eval.reporting.world_map import colours_for
from eval.scorecard import Field
from eval.scores import SCORES
from eval.scoring import score
from tests import guides
from weather_scnn.catalogue.display import shown
from weather_scnn.catalogue.variables import VARIABLES
from weather_scnn.errors import UserError
from weather_scnn.io.datasets import open_dataset

INIT, LEADS = 12, 8
MEMBERS = 4


@pytest.fixture(scope="module")
def stores(make, tmp_path_factory):
    """A forecast with one bust, an ensemble, the truth and their scores."""
    folder = tmp_path_factory.mktemp("forecasters")
    truth = make.truth()
    members = [make.forecast(truth, noise=0.02, seed=seed) for seed in range(1, MEMBERS + 1)]
    members[0]["geopotential"][5] += 3.0
    paths = {name: str(folder / f"{name}.zarr") for name in ("truth", "forecast", "ensemble")}
    truth.chunk({"time": 1}).to_zarr(paths["truth"], consolidated=False)
    members[0].chunk({"time": 1}).to_zarr(paths["forecast"], consolidated=False)
    ensemble = xr.concat(members, "realization").assign_coords(realization=range(MEMBERS))
    ensemble.chunk({"time": 1}).to_zarr(paths["ensemble"], consolidated=False)
    scores = str(folder / "scores.nc")
    score(
        [paths["forecast"]], paths["truth"], scores, baselines=["persistence"], bootstrap=0, progress=False,
        regions=["global", "tropics"], variables=["geopotential", "2m_temperature"], levels=[500],
    )  # fmt: skip
    return {**paths, "scores": scores}


@pytest.fixture(scope="module")
def index(stores, tmp_path_factory):
    """The page of the guide's command, with places and thresholds of this world."""
    folder = tmp_path_factory.mktemp("page")
    names = {"scores.nc": "scores", "forecast.zarr": "forecast", "ensemble.zarr": "ensemble", "era5.zarr": "truth"}
    for name, store in names.items():
        (folder / name).symlink_to(stores[store])
    (line,) = [line for line in guides.lines("docs/scores.md") if "--exceed" in line]
    other = {"Oslo,59.9,10.8": "Here,-10,355", "T2M>30": "T2M>-263,geopotential@500<1,T2M>q90"}
    with contextlib.chdir(folder):
        assert guides.run(line, {}, other, "--maps 48h") == "report"
    return folder / "pages" / "index.html"


def table(index, name):
    with open(index.parent / "tables" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_units_are_those_that_people_read():
    for name, units, value, expected, text, error in (
        ("geopotential", "m2 s-2", 54000.0, 5506.47 / 10, "gpdam", "gpdam"),
        ("geopotential", "m² s⁻²", 54000.0, 550.647, "gpdam", "gpdam"),
        ("2m_temperature", "K", 273.15, 0.0, "°C", "K"),
        ("temperature", "°C", 5.0, 5.0, "°C", "K"),
        ("mean_sea_level_pressure", "Pa", 101325.0, 1013.25, "hPa", "hPa"),
        ("total_precipitation_6hr", "m", 0.0125, 12.5, "mm", "mm"),
        ("specific_humidity", "kg kg-1", 0.004, 4.0, "g kg⁻¹", "g kg⁻¹"),
        ("total_cloud_cover", "1", 0.5, 50.0, "%", "%"),
        ("10m_wind_speed", "m s-1", 7.0, 7.0, "m s-1", "m s-1"),
        ("geopotential", "K", 3.0, 3.0, "K", "K"),
        ("something", "furlongs", 3.0, 3.0, "furlongs", "furlongs"),
    ):
        found = shown(name, units)
        assert (found.units, found.difference_units) == (text, error)
        assert found.of(np.array([value]))[0] == pytest.approx(expected, rel=1e-5)
    for variable in VARIABLES:  # each can be shown
        assert np.isfinite(shown(variable.name, variable.unit).of(np.array(variable.plausible))).all()
    squared = Field("geopotential", 500, "m² s⁻²").scaled_errors(np.array([98.0665**2]), "squared")
    assert squared == (pytest.approx(1 / 98.0665**2), "(gpdam)²")


def test_numbers_of_figures_and_of_scores_say_their_units(index, stores):
    scores = xr.open_dataset(stores["scores"], decode_timedelta=True)
    rmse = float(
        scores["geopotential"].sel(metric="rmse", system="model", region="global", level=500).isel(lead_time=0)
    )
    (row,) = [row for row in table(index, "rmse_geopotential_500")
              if (row["system"], row["metric"], row["lead_hours"]) == ("model", "rmse", "6")]  # fmt: skip
    factor = {"10⁻³ gpdam": 1e3, "gpdam": 1.0}[row["units"]]
    assert float(row["value"]) == pytest.approx(rmse / 98.0665 * factor, rel=1e-6)
    (row,) = [row for row in table(index, "scores") if row["variable"] == "geopotential" and row["lead_hours"] == "6"
              and (row["system"], row["metric"], row["region"]) == ("model", "rmse", "global")]  # fmt: skip
    assert float(row["value"]) == pytest.approx(rmse, rel=1e-6) and row["units"] == "m² s⁻²"
    text = index.read_text()
    assert "°C" in text and "gpdam" in text


def test_a_meteogram_has_all_members_and_the_truth_at_the_place(index, stores):
    """Against SciPy's interpolation on a grid that is closed by hand."""
    rows = table(index, "meteogram_here_2m_temperature")
    truth, ensemble = open_dataset(stores["truth"]), xr.open_zarr(stores["ensemble"], consolidated=False)
    init = ensemble["time"].values[ensemble.sizes["time"] // 2]
    longitude = np.append(truth["longitude"].values, truth["longitude"].values[0] + 360)

    def at(field):
        closed = np.concatenate([field, field[:, :1]], axis=1)
        return RegularGridInterpolator((truth["latitude"].values, longitude), closed)([[-10.0, 355.0]])[0] - 273.15

    assert len(rows) == LEADS and {row["units"] for row in rows} == {"°C"}
    for row in rows:
        lead = np.timedelta64(int(row["lead_hours"]), "h")
        assert float(row["truth"]) == pytest.approx(at(truth["2m_temperature"].sel(time=init + lead).values), abs=1e-3)
        for member in range(MEMBERS):
            field = ensemble["2m_temperature"].sel(time=init, prediction_timedelta=lead).isel(realization=member)
            value = at(field.transpose("latitude", "longitude").values)
            assert float(row[f"member {member}"]) == pytest.approx(value, abs=1e-3)
    assert "Berlin (52.5° N 13.4° E)" in index.read_text()


def test_places_are_read_as_people_write_them():
    assert read_places("Berlin, tokyo; Oslo,59.9,10.8;-33.9, 18.4") == [
        Place("Berlin", *KNOWN["Berlin"]), Place("Tokyo", *KNOWN["Tokyo"]), Place("Oslo", 59.9, 10.8),
        Place("33.9° S 18.4° E", -33.9, 18.4),
    ]  # fmt: skip
    for text, message in (
        ("Berlni", "did you mean Berlin"),
        ("Atlantis", "write Atlantis,LATITUDE,LONGITUDE"),
        ("Berlin,152.5,13.4", "beyond the poles"),
        (";".join(["Berlin"] * 9), "at most 8"),
    ):
        with pytest.raises(UserError, match=message):
            read_places(text)


def test_a_probability_is_the_share_of_members(index, stores):
    ensemble, truth = xr.open_zarr(stores["ensemble"], consolidated=False), open_dataset(stores["truth"])
    init = ensemble["time"].values[ensemble.sizes["time"] // 2]
    at = {"time": init, "prediction_timedelta": np.timedelta64(48, "h")}
    for name, member, happened in (
        ("probability_t2m_above_263_c_2d", ensemble["2m_temperature"] > 10.15, truth["2m_temperature"] > 10.15),
        ("probability_z500_below_1_gpdam_2d", ensemble["geopotential"].sel(level=500) < 98.0665, None),
    ):
        share = member.sel(at).mean("realization").transpose("latitude", "longitude").values.ravel()
        rows = table(index, name)
        np.testing.assert_allclose([float(row["probability"]) for row in rows], 100 * share, atol=1e-4)
        if happened is not None:
            seen = 100.0 * happened.sel(time=init + np.timedelta64(48, "h")).values.ravel()
            np.testing.assert_array_equal([float(row["happened"]) for row in rows], seen)


def test_a_quantile_is_that_of_the_truth_at_each_place(index, stores):
    truth = open_dataset(stores["truth"])["2m_temperature"]
    times = np.unique(np.linspace(0, len(truth) - 1, report_ensemble._MOST_TIMES).round().astype(int))
    rare = np.quantile(truth.values[times].astype(float), 0.9, axis=0)
    happened = np.array([float(row["happened"]) for row in table(index, "probability_t2m_above_its_90_quantile_2d")])
    ensemble = xr.open_zarr(stores["ensemble"], consolidated=False)
    valid = ensemble["time"].values[ensemble.sizes["time"] // 2] + np.timedelta64(48, "h")
    np.testing.assert_array_equal(happened, 100.0 * (truth.sel(time=valid).values > rare).ravel())


def test_events_that_do_not_read_are_told(stores, tmp_path):
    given = {"forecast": stores["forecast"], "truth": stores["truth"], "progress": False}
    for wrong, message in (
        ({"exceed": ["T2M=30"]}, "does not read as an event"),
        ({"exceed": ["T2M>q100"]}, "T2M>q95 for the 95 % quantile"),
        ({"exceed": ["Q700>3"]}, "has no field 'Q700'"),
        ({"ensemble": stores["forecast"]}, "holds a single forecast"),
        ({"places": "Berlin", "forecast": None}, "give --forecast and --truth"),
    ):
        with pytest.raises(UserError, match=message):
            write_report(stores["scores"], str(tmp_path / "no"), **{**given, **wrong})


@pytest.mark.slow
def test_a_single_forecast_says_nothing_of_members(stores, tmp_path):
    page = write_report(
        stores["scores"], str(tmp_path / "single"), forecast=stores["forecast"], truth=stores["truth"], maps=["24h"],
        fields=["T2M"], progress=False,
    )  # fmt: skip
    text = page.read_text()
    assert 'id="places"' in text and 'id="ensemble"' not in text and "median of the members" not in text
    assert (
        not list((page.parent / "figures").glob("p*bability_*"))
        and "member" not in table(page, "meteogram_50_n_0_e_2m_temperature")[0]
    )


def test_the_largest_bust_is_found_and_drawn(index, stores):
    """The sixth forecast has 3 m² s⁻² too much everywhere."""
    worst = table(index, "busts")[0]
    init = xr.open_zarr(stores["forecast"], consolidated=False)["time"].values[5]
    assert worst["init_time"] == np.datetime_as_string(init, "h") and worst["variable"] == "geopotential"
    assert float(worst["rmse"]) == pytest.approx(3.0, rel=0.05) and float(worst["rmse"]) > 5 * float(
        worst["median_rmse"]
    )
    error = [float(row["error"]) for row in table(index, "bust_geopotential_500_2d_error")]
    assert np.mean(error) == pytest.approx(3.0 / 98.0665, rel=0.1)
    text = index.read_text()
    assert "Where it fails" in text and "weak westerlies" in text
    regimes = table(index, "regimes")
    assert sum(int(row["init_times"]) for row in regimes if row["variable"] == "2m_temperature") == INIT
    regions = {row["region"] for row in table(index, "worst_regions")}
    assert regions == {"tropics"}


def test_lines_of_members_lie_where_the_value_is():
    latitude = np.linspace(-90, 90, 60)
    image = np.broadcast_to(latitude[:, None], (60, 80))
    edge = contour_pixels(image, 30.0)
    assert edge.sum() == 80 and edge[np.flatnonzero(latitude < 30)[-1]].all()
    members = np.stack([image, image + 10.0, image + 10.0])
    picture = spaghetti(members, image, [(30.0, "#0072b2")])
    rows = [np.flatnonzero(latitude + shift < 30)[-1] for shift in (0.0, 10.0)]
    assert picture[rows[0], 5, :3].max() < 40  # the truth is black
    assert tuple(picture[rows[1], 5, :3] // 18) == tuple((255 * np.array(to_rgb("#0072b2"))).astype(int) // 18)
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) <= 256


# Machado, Oliveira and Fernandes (2009), full severity, for linear RGB: protanopia, deuteranopia, tritanopia.
SEEN = [
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
]


def lab(rgb, matrix):
    """CIE L*a*b* (D65) of sRGB colours as somebody sees them, (…, 3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ matrix.T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def test_every_colour_map_is_even_and_safe_for_all_colour_vision():
    rows = [np.array([1.0, 2.0]), np.array([-1.0, 2.0])]
    fields = [
        Field(name, None) for name in ("geopotential", "2m_temperature", "u_component_of_wind", "specific_humidity")
    ]
    used = {colours_for(field, [row])[0] for field in fields for row in rows}
    used |= {each.map.colours for each in SCORES if each.map is not None} | {
        report_ensemble._COLOURS,
        "RdBu_r",
        "YlOrBr",
    }
    for name, matrix in itertools.product(used, SEEN):
        seen = lab(matplotlib.colormaps[name](np.linspace(0, 1, 65))[:, :3], matrix)
        lightness = seen[:, 0]
        steps = np.diff(lightness)
        if abs(lightness[0] - lightness[-1]) > 30:  # from dark to light: evenly, and never back
            assert (steps * np.sign(lightness[-1] - lightness[0]) > -0.3).all(), name
        else:  # two-sided: lightest in the middle, and the sides are of different colours
            middle = int(lightness.argmax())
            assert 24 < middle < 40, name
            assert (steps[:24] > -0.3).all() and (steps[40:] < 0.3).all(), name
            assert np.linalg.norm(seen[8] - seen[-9]) > 15, name


def test_lines_of_systems_differ_for_all_colour_vision():
    for dark in (0, 1):
        colours = [np.array(to_rgb(COLOURS[f"--system-{place}"][dark])) for place in range(4)]
        for matrix in SEEN:
            seen = [lab(colour, matrix) for colour in colours]
            assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 12
