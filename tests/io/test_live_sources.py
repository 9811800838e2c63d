"""Analyses of weather services: fetched whole, once, and taken up again where the network failed."""

import os
import sys

import numpy as np
import pytest

from tests.io import weather_services
from weather_scnn.errors import UserError
from weather_scnn.io import ecmwf_open_data, live_sources, noaa_gfs
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.live_sources import analysis_times, fetched

pytest.importorskip("ecmwf.opendata")
MAKERS = {"ecmwf-open-data": weather_services.ecmwf, "noaa-gfs": weather_services.gfs}
TIMES = np.array(["2026-11-01T00", "2026-11-01T12"], "datetime64[ns]")
FIELDS = {"geopotential": [500, 850], "2m_temperature": [], "land_sea_mask": []}


@pytest.fixture(params=MAKERS)
def service(request, tmp_path, monkeypatch):
    """(name, server) of each service, with two analyses."""
    module = {"ecmwf-open-data": ecmwf_open_data, "noaa-gfs": noaa_gfs}[request.param]
    with weather_services.serve() as server:
        for time in TIMES:
            server.files |= MAKERS[request.param](time)
        monkeypatch.setenv(module.ADDRESS, server.address)
        monkeypatch.setenv(live_sources.VARIABLE, str(tmp_path / "cache"))
        monkeypatch.setattr(live_sources, "_PAUSES_SECONDS", (0.0, 0.0))
        monkeypatch.setattr(ecmwf_open_data, "_RETRY_SECONDS", 0)
        yield request.param, server


def test_fields_of_two_times_are_those_that_were_sent(service):
    name, _ = service
    dataset = open_dataset(fetched(name, TIMES, FIELDS, progress=False))
    assert dict(dataset.sizes) == {"time": 2, "level": 2, "latitude": 19, "longitude": 36}
    sent = [
        [weather_services.values("gh", level, time, mean, 100.0) for level, mean in ((500, 5500.0), (850, 1450.0))]
        for time in TIMES
    ]
    np.testing.assert_allclose(dataset["geopotential"], 9.80665 * np.array(sent)[..., ::-1, :], rtol=1e-5)
    sent = np.stack([weather_services.values("2t", 0, time, 285.0, 8.0) for time in TIMES])
    np.testing.assert_allclose(dataset["2m_temperature"], sent[:, ::-1], atol=0.01)
    assert dataset["land_sea_mask"].dims == ("latitude", "longitude")


def test_nothing_is_fetched_twice_and_no_more_than_was_asked(service):
    name, server = service
    fetched(name, TIMES[:1], {"geopotential": [500]}, progress=False)
    whole = max(len(content) for content in server.files.values())
    assert 0 < server.bytes_asked() < whole / 8
    before = len(server.asked)
    fetched(name, TIMES[:1], {"geopotential": [500]}, progress=False)
    assert len(server.asked) == before
    taken = server.bytes_asked()
    fetched(name, TIMES[:1], {"geopotential": [500, 850]}, progress=False)
    assert server.bytes_asked() - taken < 1.5 * taken


@pytest.mark.parametrize("fault", ["500", "drop", "short"])
def test_what_fails_once_is_tried_again(service, fault):
    name, server = service
    server.faults += [("f000" if name == "noaa-gfs" else "grib2", fault)] * 2
    assert open_dataset(fetched(name, TIMES[:1], FIELDS, progress=False))["geopotential"].sizes["level"] == 2
    assert not server.faults


def test_a_download_that_was_given_up_goes_on_with_what_is_missing(service):
    name, server = service
    fetched(name, TIMES[:1], {"2m_temperature": []}, progress=False)
    server.faults += [("f000" if name == "noaa-gfs" else "grib2", "drop")] * 20
    with pytest.raises(UserError, match=r"geopotential of 2026-11-01T00 cannot be fetched .*repeat the command"):
        fetched(name, TIMES, FIELDS, progress=False)
    server.faults.clear()
    held = server.bytes_asked()
    fetched(name, TIMES, FIELDS, progress=False)
    message = len(weather_services.message("2t", 0, 2, 285.0, 8.0, TIMES[0].astype("datetime64[s]"))) + 64
    assert server.bytes_asked() - held <= 7 * message  # of four fields at two times one was there


def test_latest_is_the_newest_that_is_there(service, caplog):
    name, server = service
    with pytest.raises(UserError, match="no analysis of the last two days"):
        analysis_times(name, "latest")
    newest = np.datetime64("now", "h").astype("datetime64[ns]") - np.timedelta64(6, "h")
    newest = newest.astype("datetime64[D]") + np.timedelta64(12, "h") * (
        newest.astype("datetime64[h]").astype(int) // 12 % 2
    )
    for time in (newest, newest - np.timedelta64(12, "h")):
        server.files |= MAKERS[name](time.astype("datetime64[s]"))
    noaa_gfs._ranges.cache_clear()
    server.faults += [(".idx", "500")]  # of a failure it is not taken that there is nothing
    np.testing.assert_array_equal(analysis_times(name, "latest"), [newest])


def test_what_is_not_there_is_told_in_a_line(service):
    name, _ = service
    with pytest.raises(UserError, match=r"2026-11-01T00 has no geopotential at 300 hPa; try "):
        fetched(name, TIMES[:1], {"geopotential": [300, 500]}, progress=False)
    with pytest.raises(UserError, match=r"no temperature at 300 hPa, of which specific_humidity is made; try "):
        fetched(name, TIMES[:1], {"specific_humidity": [300]}, progress=False)
    with pytest.raises(UserError, match="there is no analysis of 2026-11-02T00"):
        fetched(name, TIMES[:1] + np.timedelta64(1, "D"), FIELDS, progress=False)
    with pytest.raises(UserError, match="has no total_precipitation"):
        fetched(name, TIMES[:1], {"total_precipitation_6hr": []}, progress=False)
    with pytest.raises(UserError, match=r"no beginning or no end; give both, or latest"):
        analysis_times(name, "2026-11-01:")
    with pytest.raises(UserError, match="no analysis in 2199"):
        analysis_times(name, "2199-01-01")
    with pytest.raises(UserError, match="1460 analyses in 2025 are more than 60"):
        analysis_times(name, "2025")
    assert [str(each)[:13] for each in analysis_times(name, "2020-01-01:2020-01-02T00")] == [
        f"2020-01-0{day}T{hour:02}" for day, hour in ((1, 0), (1, 6), (1, 12), (1, 18), (2, 0))
    ]


def test_a_derived_field_brings_its_ingredients(service):
    name, _ = service
    dataset = open_dataset(fetched(name, TIMES[:1], {"specific_humidity": [850], "wind_speed": [500]}, progress=False))
    assert set(dataset.data_vars) == {
        "temperature", "relative_humidity", "u_component_of_wind", "v_component_of_wind",
    }  # fmt: skip


def test_old_downloads_go_and_others_files_stay(service, tmp_path):
    name, _ = service
    path = fetched(name, TIMES[:1], {"2m_temperature": []}, progress=False)
    foreign = tmp_path / "cache" / name / "notes.txt"
    foreign.write_text("mine")
    folder = tmp_path / "cache" / name / "20261101T00"
    for each in (path, folder, foreign):
        os.utime(each, (0, 0))
    fetched(name, TIMES[1:], {"2m_temperature": []}, progress=False)
    assert not folder.exists() and not os.path.exists(path) and foreign.exists()


def test_packages_and_addresses_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv(live_sources.VARIABLE, str(tmp_path))
    monkeypatch.setenv(ecmwf_open_data.ADDRESS, "somewhere")
    with pytest.raises(UserError, match="'somewhere' is no source of open data; name ecmwf, aws"):
        analysis_times("ecmwf-open-data", "latest")
    monkeypatch.setitem(sys.modules, "ecmwf.opendata", None)
    with pytest.raises(UserError, match=r"ecmwf-opendata; pip install 'weather-scnn\[live\]'"):
        analysis_times("ecmwf-open-data", "latest")
    monkeypatch.setenv(noaa_gfs.ADDRESS, "nowhere://bucket")
    with pytest.raises(UserError, match="nowhere://bucket: cannot be reached"):
        analysis_times("noaa-gfs", "latest")
