"""The report opens with no network and holds what it should."""

import csv
import html.parser
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import eval.reporting.figures as figures
from eval.reporting import page
from eval.reporting.figure_style import to_png
from eval.reporting.projection import project
from eval.reporting.report import write_report
from eval.reporting.report_curves import useful_hours
from eval.reporting.score_file import ScoreFile
from eval.scorecard import list_fields
from eval.scoring import open_scores, score
from weather_scnn.errors import UserError


@pytest.fixture(scope="module")
def scores_path(world, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "scores.nc"
    score(
        world["forecast"],
        world["truth"],
        str(path),
        climatology=world["climatology"],
        baselines=("persistence", "climatology"),
        regions=("global", "tropics", "extratropics"),
        variables=["geopotential", "2m_temperature"],
        progress=False,
    )
    return str(path)


@pytest.fixture(scope="module")
def report(scores_path, world, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "report"
    return write_report(scores_path, str(output), forecast=world["forecast"], truth=world["truth"], progress=False)


# Four scores of 3 fields; 3 maps of 3 fields at 24 h and at the last lead; the animation's scale; 2 histograms a field.
FIGURES = 4 * 3 + 3 * 3 * 2 + 1 + 2 * 3


class Reader(html.parser.HTMLParser):
    """Collects addresses that a browser would fetch, ids, and tags left open."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "source"})

    def __init__(self):
        super().__init__()
        self.fetched, self.ids, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "poster", "srcset"):
                self.fetched.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_fetches_nothing_and_is_well_formed(report):
    text = report.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert all(address.startswith(("#", "data:")) for address in reader.fetched)
    assert len(reader.ids) == len(set(reader.ids))
    targets = {address[1:] for address in reader.fetched if address.startswith("#")}
    assert targets <= set(reader.ids)
    assert "<script" not in text and "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_page_has_its_parts(report):
    text = report.read_text(encoding="utf-8")
    for part in ("Scorecard", "RMSE against lead time", "Anomaly correlation", "Bias", "Settings and provenance"):
        assert part in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text and "max-width: 560px" in text
    assert text.count('<svg role="img"') == FIGURES
    assert "Geopotential 500 hPa" in text and "m² s⁻²" in text


def test_numbers_and_pictures_lie_beside_the_page(report, scores_path):
    scores = open_scores(scores_path)
    with open(report.parent / "tables" / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [
        row
        for row in rows
        if (row["variable"], row["level"], row["region"], row["system"], row["metric"], row["lead_hours"])
        == ("geopotential", "500", "tropics", "persistence", "rmse", "12")
    ]
    expected = scores["geopotential"].sel(
        level=500, region="tropics", system="persistence", metric="rmse", lead_time=np.timedelta64(12, "h")
    )
    assert [float(row["value"]) for row in wanted] == [pytest.approx(float(expected), rel=1e-8)]
    pictures = sorted((report.parent / "figures").glob("*.png"))
    # The last frame of the animation is a PNG, too.
    assert len(pictures) == FIGURES + 1
    assert all(picture.read_bytes()[:4] == b"\x89PNG" for picture in pictures)
    maps = {}
    for kind in ("forecast", "truth", "error"):
        with open(report.parent / "tables" / f"map_2m_temperature_24h_{kind}.csv", newline="") as file:
            maps[kind] = float(next(csv.DictReader(file))[kind])
    assert maps["error"] == pytest.approx(maps["forecast"] - maps["truth"], abs=1e-4)
    # Every figure has its numbers under the same name.
    tables = {path.stem for path in (report.parent / "tables").glob("*.csv")}
    assert {path.stem for path in pictures} <= tables
    assert {path.name for path in (report.parent / "figures" / "dark").glob("*.png")} >= {
        path.name for path in pictures if not path.stem.startswith("animation")
    }


def test_scores_alone_make_a_page_too(scores_path, tmp_path):
    index = write_report(scores_path, str(tmp_path / "plain"), progress=False)
    assert "Scorecard" in index.read_text() and 'id="maps"' not in index.read_text()
    with pytest.raises(UserError, match="already exists"):
        write_report(scores_path, str(tmp_path / "plain"), progress=False)
    write_report(scores_path, str(tmp_path / "plain"), overwrite=True, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


def test_what_is_not_a_report_is_never_replaced(scores_path, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match="not a report"):
        write_report(scores_path, str(tmp_path / "work"), overwrite=True, progress=False)
    assert (tmp_path / "work" / "thesis.tex").exists()
    with pytest.raises(UserError, match="both the forecast and the truth"):
        write_report(scores_path, str(tmp_path / "new"), forecast="f.zarr", progress=False)
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_not_of_scores(tmp_path, world):
    with pytest.raises(UserError, match="not a file of scores"):
        write_report(world["truth"], str(tmp_path / "r"), progress=False)


def test_projection_keeps_areas_and_places():
    latitude, longitude = np.linspace(-89.5, 89.5, 180), np.arange(0.5, 360, 1.0)
    north, east = np.meshgrid(latitude, longitude, indexing="ij")
    # Equal areas: the part of the picture north of 30° is the part of the sphere, 1/4.
    image, extent = project((north > 30).astype(float), latitude, longitude, pixels=900)
    inside = np.isfinite(image)
    assert image[inside].mean() == pytest.approx(0.25, abs=2e-3)
    # Greenwich is in the middle, the date line on the rim, south below.
    shape = image.shape
    cosine, _ = project(np.cos(np.radians(east)), latitude, longitude, pixels=900)
    assert cosine[shape[0] // 2, shape[1] // 2] == pytest.approx(1, abs=1e-3)
    assert cosine[shape[0] // 2, 1] == pytest.approx(-1, abs=1e-2)
    height, _ = project(north, latitude, longitude, pixels=900)
    assert height[0, shape[1] // 2] < -80 and height[-1, shape[1] // 2] > 80
    assert extent[1] / extent[3] == pytest.approx(2.05, abs=0.01)


def test_curves_carry_their_intervals_and_the_region_asked_for(scores_path, tmp_path, capsys):
    index = write_report(
        scores_path, str(tmp_path / "tropics"), region="tropics", reference="climatology", progress=False
    )
    scores, bounds = open_scores(scores_path), open_scores(scores_path, group="intervals")
    wanted = {"level": 500, "region": "tropics", "system": "model", "metric": "rmse"}
    with open(index.parent / "tables" / "rmse_geopotential_500.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["system"] == "model"]
    np.testing.assert_allclose(
        [float(row["value"]) for row in rows], scores["geopotential"].sel(**wanted).values, rtol=1e-6
    )
    for bound in ("lower", "upper"):
        expected = bounds["geopotential"].sel(**wanted, bound=bound).values
        np.testing.assert_allclose([float(row[bound]) for row in rows], expected, rtol=1e-6)
    text = index.read_text()
    assert "skill against climatology" in text and "Region: tropics" in text and "95 % intervals" in text
    with pytest.raises(UserError, match="no system 'hres'"):
        write_report(scores_path, str(tmp_path / "other"), reference="hres", progress=False)
    with pytest.raises(UserError, match="no region 'europe'"):
        write_report(scores_path, str(tmp_path / "other"), region="europe", progress=False)
    # Nothing is drawn before the choices are checked, not even a bar.
    capsys.readouterr()
    with pytest.raises(UserError, match="no system 'hres'"):
        write_report(scores_path, str(tmp_path / "other"), reference="hres")
    assert capsys.readouterr().err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["tropics"]


def test_brackets_mark_differences_that_may_be_chance(scores_path):
    file = ScoreFile.open(scores_path)
    field = list_fields(file.scores)[0]
    lower, upper = (
        field.of(file.groups["differences"]).sel(
            system="model", reference_system="persistence", region="global", metric="rmse", statistic=bound
        )
        for bound in ("lower", "upper")
    )
    sure = file.significant(field, "rmse", "model", "persistence", "global")
    np.testing.assert_array_equal(sure, (lower.values > 0) | (upper.values < 0))
    assert "<small>(+3 %)</small>" in page.scorecard_cell("1.0", 0.03, unsure=True)
    assert "<small>−3 %</small>" in page.scorecard_cell("1.0", -0.03, unsure=False)
    assert "<small>0 %</small>" in page.scorecard_cell("1.0", -0.001, unsure=False)


def test_a_dark_picture_is_dark_between_its_lines():
    hours = np.arange(5.0)
    figure = figures.curves(hours, {0: figures.Curve(hours)}, title="", units="")
    pixels = plt.imread(io.BytesIO(to_png(figure, dark=True)))[..., :3]
    assert np.median(pixels) < 0.2


def test_earlier_ratios_keep_their_system_and_second_scores_do_not():
    """A dashed line of a spectrum is a system; beside a spread it is the RMSE of any."""
    wavenumber, hours = np.arange(1.0, 5.0), np.arange(4.0)
    ratio = dict.fromkeys((0, 1), np.ones(4))
    axes = figures.power_ratio(wavenumber, ratio, ratio, title="", axis="").axes[0]
    styles = [(line.get_linestyle(), line.get_alpha() is None) for line in axes.lines[1:]]
    assert styles == [("-", False), ("--", False), ("-", True), ("--", True)]
    curve = dict.fromkeys((0, 1), figures.Curve(hours))
    axes = figures.curves(hours, curve, title="", units="", beside=curve).axes[0]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "-", "--", "--"]


def test_the_lead_at_which_a_forecast_stops_being_useful():
    hours = np.array([24.0, 48, 72, 96])
    assert useful_hours(hours, np.array([0.9, 0.7, 0.5, 0.3])) == pytest.approx(60)
    assert useful_hours(hours, np.array([0.9, 0.8, 0.7, 0.65])) is None
    assert useful_hours(hours, np.array([0.5, 0.4, 0.7, 0.3])) == 0
    # A gap is bridged; what comes back above 0.6 later does not count.
    assert useful_hours(hours, np.array([0.8, np.nan, 0.4, 0.9])) == pytest.approx(48)


def test_the_page_of_an_ensemble(make, world, tmp_path):
    truth = make.truth()
    members = [make.forecast(truth, noise=0.05, seed=seed) for seed in range(1, 5)]
    ensemble = xr.concat(members, dim="realization")[["geopotential"]].assign_coords(realization=range(4))
    store = str(tmp_path / "ensemble.zarr")
    ensemble.chunk({"time": 1}).to_zarr(store, consolidated=False)
    scores = str(tmp_path / "scores.nc")
    score([world["forecast"], f"ensemble={store}"], world["truth"], scores, climatology=world["climatology"],
          variables=["geopotential"], levels=[500], maps=["24h"], spectra=["12h", "24h"], progress=False)  # fmt: skip
    index = write_report(scores, str(tmp_path / "report"), forecast=store, truth=world["truth"], progress=False)
    text = index.read_text(encoding="utf-8")
    for part in ("CRPS", "Ensemble spread", "Rank histograms", "Spectra", "Where the errors are", "first of 4 members"):
        assert part in text
    keys = {}
    for section in ("spread", "spectra"):
        keys[section] = re.search(rf'<section id="{section}">.*?<div class="key">(.*?)</div>', text, re.DOTALL)[1]
    # Dashes are the RMSE, never a system; of spectra they are a system, and paleness is the earlier lead time.
    lines = re.findall(r"<line ([^>]*)/></svg>([^<]*)</span>", keys["spread"])
    assert [name for style, name in lines if "dasharray" in style] == ["RMSE of the ensemble mean"]
    lines = re.findall(r"<line ([^>]*)/></svg>([^<]*)</span>", keys["spectra"])
    assert [name for style, name in lines if "dasharray" in style] == ["ensemble"]
    assert [name for style, name in lines if "opacity" in style] == ["truth", "ratio at 12 h"]
    assert "Of an ensemble (ensemble) the first member is shown" in text
    with xr.open_dataset(scores, group="rank_histogram") as ranks:
        assert ranks["geopotential"].attrs["units"] == "1" and "units" not in ranks["geopotential_area"].attrs
    tables = {path.stem for path in (index.parent / "tables").glob("*.csv")}
    assert {"spread_geopotential_500", "spectrum_ratio_geopotential_500", "bias_map_geopotential_500_24h"} <= tables
    # Every score has its map.
    metrics = {"bias", "rmse", "acc", "mae", "mse", "activity", "explained_variance"}
    assert {f"{metric}_map_geopotential_500_24h" for metric in metrics} <= tables and "Further scores of" in text
    with open(index.parent / "tables" / "rank_histogram_ensemble_geopotential_500_24h.csv", newline="") as file:
        shares = [float(row["per cent of area"]) for row in csv.DictReader(file)]
    assert len(shares) == 5 and sum(shares) == pytest.approx(100)
