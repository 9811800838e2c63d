"""The report as a reader meets it: opened in a real browser, wide and narrow, light and dark, and printed."""

import io

import numpy as np
import pytest
from PIL import Image

from eval.reporting.report import write_report
from eval.scoring import score
from tests.eval.reporting.browser import find_browser, running, visit

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (apt-get install chromium)")

_LOADED = "Array.from(document.images).every(image => image.complete && image.naturalWidth > 0)"
_BACKGROUND = "getComputedStyle(document.body).backgroundColor"
_CUT = """Array.from(document.querySelectorAll('h1, h2, p, dd, .tile, figure'))
    .filter(element => element.getBoundingClientRect().right > window.innerWidth + 1).length"""


@pytest.fixture(scope="module")
def page(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    scores = str(folder / "scores.nc")
    score(
        world["forecast"], world["truth"], scores, climatology=world["climatology"],
        baselines=("persistence", "climatology"), regions=("global", "tropics"), variables=["geopotential"],
        levels=[500], maps=["24h"], spectra=["24h"], progress=False,
    )  # fmt: skip
    return write_report(
        scores, str(folder / "report"), forecast=world["forecast"], truth=world["truth"], progress=False
    )


@pytest.fixture(scope="module")
def debugger(tmp_path_factory):
    with running(BROWSER, tmp_path_factory.mktemp("profile")) as address:
        yield address


@pytest.mark.parametrize(
    ("width", "dark"),
    [
        pytest.param(1280, False, id="desktop-light"), pytest.param(390, True, id="phone-dark"),
        pytest.param(1280, True, id="desktop-dark", marks=pytest.mark.slow),
        pytest.param(390, False, id="phone-light", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_page_opens_without_a_complaint(page, debugger, width, dark, tmp_path):
    seen = visit(debugger, page, width=width, dark=dark, expressions=(_LOADED, _BACKGROUND, _CUT))
    (tmp_path / "page.png").write_bytes(seen.picture)
    assert seen.complaints == []
    assert [address for address in seen.requests if not address.startswith("data:")] == [page.absolute().as_uri()]
    loaded, background, cut = seen.answers
    assert loaded and cut == 0
    assert seen.width <= width, "the page scrolls sideways"
    shade = np.mean([int(part) for part in background.strip("rgba()").split(",")[:3]])
    assert shade < 60 if dark else shade > 200
    picture = np.asarray(Image.open(io.BytesIO(seen.picture)).convert("L"), np.float64)
    # Most of the page has the ground's shade, and there is something on it.
    assert np.median(picture) < 80 if dark else np.median(picture) > 200
    assert picture.std() > 15


def test_the_printed_page_is_light_and_has_no_animation(page, debugger):
    seen = visit(
        debugger, page, width=794, dark=True, media="print",
        expressions=(
            _BACKGROUND, "getComputedStyle(document.querySelector('.halves i')).backgroundImage.slice(5, 19)",
        ),
    )  # fmt: skip
    assert seen.complaints == []
    assert seen.answers[0] == "rgb(255, 255, 255)"
    assert seen.answers[1] == "data:image/png"
    assert seen.width <= 794, "tables are cut off on paper"
