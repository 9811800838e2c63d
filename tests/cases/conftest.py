"""Small files in the layouts of the field's publishers, and servers of them."""

import functools
import http.server
import json
import pathlib
import threading
import urllib.parse

import fsspec.config
import numpy as np
import pandas as pd
import pytest
import xarray as xr

LATITUDE = np.linspace(-90, 90, 7)
LONGITUDE = np.arange(0.0, 360.0, 30.0)
TIMES = pd.date_range("2020-01-01", periods=4, freq="6h")


def values(time=TIMES, level=(500, 850), latitude=LATITUDE, longitude=LONGITUDE):
    """Temperatures in K that tell where they belong, (time, level, latitude, longitude)."""
    hours = (np.asarray(time) - np.datetime64("2020-01-01")) / np.timedelta64(1, "h")
    parts = np.meshgrid(hours, level, latitude, np.mod(longitude, 360), indexing="ij")
    return (230 + parts[0] * 0.1 + parts[1] * 0.01 + parts[2] * 0.1 + parts[3] * 0.01).astype("float32")


def field(name="t", time=TIMES, level=(500, 850), latitude=LATITUDE, longitude=LONGITUDE, units="K"):
    """A dataset of one field on levels; `level` None gives a surface field."""
    dims = ("time", "level", "latitude", "longitude")
    data = values(time, (0,) if level is None else level, latitude, longitude)
    coords = {"time": time, "latitude": latitude, "longitude": longitude}
    if level is None:
        return xr.Dataset({name: ((dims[0], *dims[2:]), data[:, 0], {"units": units})}, coords)
    return xr.Dataset({name: (dims, data, {"units": units})}, coords | {"level": list(level)})


@pytest.fixture
def make():
    """`field`."""
    return field


@pytest.fixture
def grib():
    """Appends a GRIB message to an open file: grib(file, short_name, values, edition=2, **keys)."""
    eccodes = pytest.importorskip("eccodes")

    def append(file, short_name, data, *, edition=2, level=None, date=20200101, hour=0, **keys):
        data = np.asarray(data, np.float64)
        kind = "sfc" if level is None else "pl"
        message = eccodes.codes_grib_new_from_samples(f"regular_ll_{kind}_grib{edition}")
        rows, columns = data.shape
        settings = {
            "Ni": columns,
            "Nj": rows,
            "latitudeOfFirstGridPointInDegrees": 90.0,
            "latitudeOfLastGridPointInDegrees": -90.0,
            "longitudeOfFirstGridPointInDegrees": 0.0,
            "longitudeOfLastGridPointInDegrees": 360.0 - 360.0 / columns,
            "iDirectionIncrementInDegrees": 360.0 / columns,
            "jDirectionIncrementInDegrees": 180.0 / (rows - 1),
            "dataDate": date,
            "dataTime": hour * 100,
            "bitsPerValue": 24,
            **({"productDefinitionTemplateNumber": 1} if "number" in keys and edition == 2 else {}),
            **({"stepType": keys.pop("stepType")} if "stepType" in keys else {}),
            "shortName": short_name,
            **({} if level is None else {"level": level}),
            **keys,
        }
        for key, value in settings.items():
            eccodes.codes_set(message, key, value)
        eccodes.codes_set_values(message, data.ravel())
        eccodes.codes_write(message, file)
        eccodes.codes_release(message)

    return append


@pytest.fixture
def clean_options(monkeypatch):
    """Storage options set in a test end with it."""
    before = {name: dict(options) for name, options in fsspec.config.conf.items()}
    for name in ("GS", "GCS", "S3", "S3A", "AZ", "ABFS", "ABFSS", "HTTP"):
        monkeypatch.setenv(f"FSSPEC_{name}", "")
        monkeypatch.delenv(f"FSSPEC_{name}")
    yield
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class _Bucket(http.server.BaseHTTPRequestHandler):
    """The reading half of Google's JSON API over a local folder, for a bucket whose readers pay."""

    root: pathlib.Path
    asked: list[dict]

    def log_message(self, *_):
        pass

    def _answer(self, status, body, kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        address = urllib.parse.urlparse(self.path)
        query = {key: value[0] for key, value in urllib.parse.parse_qs(address.query).items()}
        self.asked.append({"project": query.get("userProject"), "authorised": "Authorization" in self.headers})
        if "userProject" not in query:
            error = "Bucket is a requester pays bucket but no user project provided."
            self._answer(400, {"error": {"code": 400, "message": error, "errors": [{"message": error}]}})
            return
        _, _, name = address.path.partition("/o/")
        name = urllib.parse.unquote(name)
        if name:
            path = self.root / name
            if not path.is_file():
                self._answer(404, {"error": {"code": 404, "message": "Not Found"}})
            elif query.get("alt") == "media" or "/download/" in address.path:
                data = path.read_bytes()
                if span := self.headers.get("Range"):
                    first, _, last = span.removeprefix("bytes=").partition("-")
                    data = data[int(first) : int(last) + 1 if last else None]
                self._answer(200, data, "application/octet-stream")
            else:
                self._answer(200, self._facts(path))
            return
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, prefixes = [], set()
        for path in sorted(each for each in self.root.rglob("*") if each.is_file()):
            rest = str(path.relative_to(self.root))
            if not rest.startswith(prefix):
                continue
            if delimiter and delimiter in rest[len(prefix) :]:
                prefixes.add(prefix + rest[len(prefix) :].split(delimiter)[0] + delimiter)
            else:
                items.append(self._facts(path))
        self._answer(200, {"items": items, "prefixes": sorted(prefixes)})

    def _facts(self, path):
        name = str(path.relative_to(self.root))
        stamp = "2020-01-01T00:00:00.000Z"
        return {
            "name": name, "bucket": "b", "size": str(path.stat().st_size), "generation": "1", "updated": stamp,
            "timeCreated": stamp, "contentType": "application/octet-stream", "id": name, "kind": "storage#object",
        }  # fmt: skip


def _serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def web(tmp_path):
    """Address of a web server of tmp_path/web."""
    (tmp_path / "web").mkdir()
    server = _serve(functools.partial(_Quiet, directory=tmp_path / "web"))
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def bucket(tmp_path):
    """(endpoint, folder behind gs://b, requests seen) of a bucket whose readers pay."""
    (tmp_path / "bucket").mkdir()
    handler = type("Handler", (_Bucket,), {"root": tmp_path / "bucket", "asked": []})
    server = _serve(handler)
    yield f"http://127.0.0.1:{server.server_port}", tmp_path / "bucket", handler.asked
    server.shutdown()
