"""The report opens with no network and holds what it should."""

import base64
import csv
import html.parser
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from PIL import Image

import eval.reporting.figures as figures
from eval.regions import REGIONS
from eval.reporting import page
from eval.reporting.figure_style import to_png, to_svg
from eval.reporting.projection import AzimuthalEqualArea, EqualEarth, Raster, projection_of
from eval.reporting.report import require_room, write_report
from eval.reporting.report_curves import useful_hours
from eval.reporting.score_file import ScoreFile
from eval.reporting.world_map import Globe, shade, world_map
from eval.scorecard import list_fields, scaled_units
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
    return write_report(
        scores_path, str(output), forecast=world["forecast"], truth=world["truth"], fields=["Z500", "T2M"],
        progress=False,
    )  # fmt: skip


# Four scores of 2 fields; 3 maps of 2 fields at 24 h and at the last lead; the animation's scale; 2 histograms a field; 2 fields
# at 3 places; 3 maps of 2 busts.
FIGURES = 4 * 2 + 3 * 2 * 2 + 1 + 2 * 2 + 2 * 3 + 3 * 2


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
    assert not re.search(r"url\((?!#|data:)", text)


def test_page_has_its_parts(report):
    text = report.read_text(encoding="utf-8")
    for part in ("Scorecard", "RMSE against lead time", "Anomaly correlation", "Bias", "Settings and provenance"):
        assert part in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text and "max-width: 560px" in text
    assert text.count('<svg role="img"') == FIGURES
    assert "Geopotential 500 hPa" in text and "gpdam" in text and "m² s⁻²" not in text


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
    write_report(scores_path, str(tmp_path / "plain"), overwrite=True, fields=["T2M"], progress=False)
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
    whole = Raster.create(EqualEarth(), latitude, longitude, 900)
    image, extent = whole((north > 30).astype(float)), EqualEarth().extent
    inside = np.isfinite(image)
    assert image[inside].mean() == pytest.approx(0.25, abs=2e-3)
    # Greenwich is in the middle, the date line on the rim, south below.
    shape = image.shape
    cosine = whole(np.cos(np.radians(east)))
    assert cosine[shape[0] // 2, shape[1] // 2] == pytest.approx(1, abs=1e-3)
    assert cosine[shape[0] // 2, 1] == pytest.approx(-1, abs=1e-2)
    height = whole(north)
    assert height[0, shape[1] // 2] < -80 and height[-1, shape[1] // 2] > 80
    assert extent[1] / extent[3] == pytest.approx(2.05, abs=0.01)


@pytest.mark.parametrize("name", ["europe", "north-pacific", "arctic", "antarctic", "tropics"])
def test_a_region_is_shown_whole_and_by_its_area(name):
    """The area within the outline is that of the region on the unit sphere; places come back where they went."""
    region = REGIONS[name]
    projection = projection_of(region)
    x, y = projection.outline()
    south, north = region.bands[0]
    wide = 2 * np.pi if region.longitudes is None else np.radians((region.longitudes[1] - region.longitudes[0]) % 360)
    area = wide * (np.sin(np.radians(north)) - np.sin(np.radians(south)))
    assert abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2) == pytest.approx(area, rel=0.005)
    middle = np.array([0.0 if region.longitudes is None else region.longitudes[0] + 5.0]), np.array([south + 4.0])
    east, back, outside = projection.unproject(*projection.place(*middle))
    assert (east - middle[0]) % 360 == pytest.approx(0, abs=1e-6) or (east - middle[0]) % 360 > 360 - 1e-6
    assert back == pytest.approx(middle[1], abs=0.01) and not outside.any()
    assert isinstance(projection, EqualEarth if name == "tropics" else AzimuthalEqualArea)


def test_coasts_of_a_region_lie_within_it():
    globe = Globe(np.arange(3.0), np.arange(3.0), earth=True, land=None, projection=projection_of(REGIONS["europe"]))
    left, right, bottom, top = globe.projection.extent
    points = np.concatenate(globe.coasts)
    assert len(points) > 300
    assert (points.min(axis=0) >= (left - 2e-6, bottom - 2e-6)).all()
    assert (points.max(axis=0) <= (right + 2e-6, top + 2e-6)).all()


def test_a_map_of_a_region_fills_its_card_and_has_the_colours_of_what_it_shows():
    latitude, longitude = np.linspace(-87, 87, 30), np.arange(0, 360, 6.0)
    field = np.broadcast_to(latitude[:, None], (30, 60)).copy()
    field[:, 20:40] = 500.0  # the other side of the globe
    whole, europe = (
        Globe(latitude, longitude, earth=True, land=None, projection=projection_of(region))
        for region in (None, REGIONS["europe"])
    )
    assert whole.seen(field).size == field.size
    seen = europe.seen(np.stack([field, -field]))
    # The box, 35 to 75 degrees north, and the corners of the picture around it.
    assert 25 < seen[0].min() < 40 and 70 < seen[0].max() < 88 and np.all(seen[1] == -seen[0])
    shares = []
    for globe in (whole, europe):
        figure = world_map(
            field, globe, title="", units="", colours="gray", limits=(0.0, 90.0), most_bytes=10**6
        ).figure
        left, right, bottom, top = globe.projection.extent
        axes, (width, height) = figure.axes[0], figure.get_size_inches()
        box = axes.get_position()
        shape = (right - left) / (top - bottom)
        shares.append(min(box.width * width, shape * box.height * height) / width)
    assert shares[0] > 0.9 and shares[1] > 0.85
    assert whole.note == "" and europe.note.startswith("Shown is Europe (35–75° N, 12.5° W – 42.5° E), outlined")


def test_the_page_draws_what_is_asked(scores_path, world, tmp_path):
    index = write_report(
        scores_path, str(tmp_path / "asked"), forecast=world["forecast"], truth=world["truth"],
        fields=["geopotential@850"], maps=["12h"], zoom="europe", progress=False,
    )  # fmt: skip
    assert index.read_text().count("Shown is Europe (35–75° N") == 2
    names = {path.stem for path in (index.parent / "figures").glob("*.png")}
    maps = {name for name in names if name.startswith("map_")}
    assert maps == {f"map_geopotential_850_12h_{kind}" for kind in ("forecast", "truth", "error")}
    assert {name for name in names if name.startswith("rmse_")} == {"rmse_geopotential_850"}
    for wrong, message in (
        ({"fields": ["z700"]}, "has no field 'z700'"),
        ({"maps": ["7h"]}, "--maps names 7h"),
        ({"zoom": "europa"}, "nearest: europe"),
    ):
        with pytest.raises(UserError, match=message):
            write_report(
                scores_path, str(tmp_path / "no"), forecast=world["forecast"], truth=world["truth"], progress=False,
                **wrong,
            )  # fmt: skip
    with pytest.raises(UserError, match="holds no maps"):
        write_report(scores_path, str(tmp_path / "no"), maps=["24h"], progress=False)


def test_a_map_on_the_page_keeps_its_values_in_few_bytes():
    """The palette holds the image's colours, each within half a step of sixty, and keeps to its share of the page."""
    latitude, longitude = np.linspace(-87, 87, 30), np.arange(0, 360, 6.0)
    field = np.sin(np.radians(latitude))[:, None] * np.cos(np.radians(2 * longitude))
    globe = Globe(latitude, longitude, earth=False, land=None)
    drawn = dict(title="", units="", colours="viridis", limits=(-1.0, 1.0))
    large, small = (world_map(field, globe, most_bytes=most, **drawn).picture for most in (10**6, 6000))
    assert len(small) <= 6000 < len(large)
    picture = Image.open(io.BytesIO(large))
    assert picture.mode == "P"
    pixels = np.asarray(picture.convert("RGBA"))
    exact = np.asarray(shade(globe.raster(picture.width)(field), "viridis", (-1.0, 1.0), isolines=False))
    assert (pixels[..., 3] == exact[..., 3]).all()
    # viridis moves by at most 10 of 255 in half a sixtieth of its length.
    assert np.abs(pixels.astype(int) - exact)[exact[..., 3] > 0].max() <= 10
    with pytest.raises(UserError, match="a page holds"):
        require_room(301.0)


def test_north_is_up_on_the_page():
    """The page's picture has the south in its first row, and the transform that matplotlib wrote turns it over."""
    latitude, longitude = np.linspace(-87, 87, 30), np.arange(0, 360, 6.0)
    field = np.broadcast_to(latitude[:, None], (30, 60))
    globe = Globe(latitude, longitude, earth=False, land=None)
    figure, picture = world_map(
        field, globe, title="", units="", colours="gray", limits=(-90.0, 90.0), most_bytes=10**6
    )
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), int)
    assert pixels[2, 320] < 30 and pixels[-3, 320] > 225
    svg = to_svg(figure, prefix="f1", description="", picture=picture)
    scale = [float(part) for part in re.search(r'id="f1-picture"[^>]*matrix\(([^)]*)\)', svg)[1].split()]
    assert scale[0] > 0 > scale[3]
    assert svg.count("data:image/png") == 2 and base64.b64encode(picture).decode() in svg


def test_numbers_beside_an_axis_are_whole():
    """The longest number of an axis fits into the space to its left."""
    hours = np.arange(5.0)
    figure = figures.curves(hours, {0: figures.Curve(55000 + 300 * hours)}, title="", units="")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert max(len(label.get_text()) for label in axes.get_yticklabels()) == 5
    assert min(label.get_window_extent().x0 for label in axes.get_yticklabels() if label.get_text()) >= 0
    edges = np.linspace(47990.0, 56000.0, 11)
    figure = figures.histogram(edges, [("truth", "--muted", np.full(10, 10.0))], title="", units="m")
    figure.draw_without_rendering()
    labels = {label.get_text(): label.get_window_extent().x1 for label in figure.axes[0].get_xticklabels()}
    assert labels["56000"] <= figure.bbox.x1


def test_lines_of_equal_scores_are_told_apart():
    curve = dict.fromkeys((0, 1, 2), figures.Curve(np.arange(12.0)))
    axes = figures.curves(np.arange(12.0), curve, title="", units="").axes[0]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "--"]
    assert len({line.get_marker() for line in axes.lines}) == 3
    marked = [
        set(range(*slice(line.get_markevery()[0], None, line.get_markevery()[1]).indices(12))) for line in axes.lines
    ]
    assert not marked[0] & marked[1]


def test_very_small_and_large_scores_have_readable_units():
    assert scaled_units(np.array([np.nan, 2e-5, 6e-4]), "kg kg⁻¹") == (pytest.approx(1e3), "g kg⁻¹")
    assert scaled_units(np.array([3e-4]), "Pa s⁻¹") == (pytest.approx(1e3), "10⁻³ Pa s⁻¹")
    assert scaled_units(np.array([2e5]), "Pa") == (pytest.approx(1e-3), "10³ Pa")
    assert scaled_units(np.array([0.02, 5e4]), "K") == (1.0, "K")
    assert scaled_units(np.array([np.nan]), "K") == (1.0, "K")


def test_the_weakest_score_is_named(report, scores_path):
    """The sentence names the least skill of all fields, regions and lead times, with its two errors."""
    scores = open_scores(scores_path)
    least = []
    for name in scores.data_vars:
        rmse = scores[name].sel(metric="rmse")
        least.append((float((1 - rmse.sel(system="model") / rmse.sel(system="persistence")).min()), name))
    skill, name = min(least)
    found = re.search(r'<p class="finding">(.*?)</p>', report.read_text(encoding="utf-8"))[1]
    assert page.per_cent(skill) in found
    assert name.replace("_", " ")[:6] in found.lower()
    assert "tropics" in found or "globe" in found or "extratropics" in found


def test_tiles_and_scorecard_have_one_sign(report, scores_path):
    """What a forecast removes of the reference's error is counted as more, everywhere."""
    rmse = open_scores(scores_path)["2m_temperature"].sel(
        metric="rmse", region="global", lead_time=np.timedelta64(24, "h")
    )
    gain = page.per_cent(1 - float(rmse.sel(system="model")) / float(rmse.sel(system="persistence")))
    text = report.read_text(encoding="utf-8")
    tile = re.search(r"<b[^>]*>([^<]*)</b><span>2 m temperature", text)[1]
    assert tile == gain and f"<small>{gain}</small>" in text.replace("(", "").replace(")", "")


@pytest.mark.slow
def test_the_idealised_planet_is_told_under_its_maps(scores_path, world, tmp_path):
    truth = xr.open_zarr(world["truth"], consolidated=False).assign_attrs(title="Idealised nature run")
    store = str(tmp_path / "truth.zarr")
    truth.drop_encoding().to_zarr(store, consolidated=False)
    index = write_report(
        scores_path, str(tmp_path / "ideal"), forecast=world["forecast"], truth=store, fields=["T2M"], maps=["24h"],
        progress=False,
    )  # fmt: skip
    section = re.search(r'<section id="maps">.*?</section>', index.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert "idealised planet" in section and "edges of its high ground" in section


def test_curves_carry_their_intervals_and_the_region_asked_for(scores_path, tmp_path, capsys):
    index = write_report(
        scores_path,
        str(tmp_path / "tropics"),
        region="tropics",
        reference="climatology",
        fields=["Z500"],
        progress=False,
    )
    scores, bounds = open_scores(scores_path), open_scores(scores_path, group="intervals")
    wanted = {"level": 500, "region": "tropics", "system": "model", "metric": "rmse"}
    with open(index.parent / "tables" / "rmse_geopotential_500.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["system"] == "model"]
    # As they are drawn, in tens of geopotential metres.
    assert {row["units"] for row in rows} == {"gpdam"}
    expected = scores["geopotential"].sel(**wanted).values / 98.0665
    np.testing.assert_allclose([float(row["value"]) for row in rows], expected, rtol=1e-6)
    for bound in ("lower", "upper"):
        expected = bounds["geopotential"].sel(**wanted, bound=bound).values / 98.0665
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
    axes = figures.power_ratio(wavenumber, ratio, [ratio], title="", axis="").axes[0]
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


@pytest.mark.slow
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
    # Every score has its map, but for the mean square, whose map is the RMSE's in other numbers.
    metrics = {"bias", "rmse", "acc", "mae", "activity", "explained_variance"}
    assert {f"{metric}_map_geopotential_500_24h" for metric in metrics} <= tables and "Further scores of" in text
    with open(index.parent / "tables" / "rank_histogram_ensemble_geopotential_500_24h.csv", newline="") as file:
        shares = [float(row["per cent of area"]) for row in csv.DictReader(file)]
    assert len(shares) == 5 and sum(shares) == pytest.approx(100)


def test_levels_that_a_field_has_not_got_are_not_on_the_page(scores_path):
    scores = open_scores(scores_path)
    scores["geopotential"].loc[{"level": 850}] = np.nan
    assert [field.slug for field in list_fields(scores)] == ["geopotential_500", "2m_temperature"]
