"""Weather services on this machine: small GRIB2 messages behind HTTP, which fails where a test says so."""

import contextlib
import dataclasses
import http.server
import json
import re
import threading

import eccodes
import numpy as np

LATITUDE, LONGITUDE = np.linspace(90.0, -90.0, 19), np.arange(0.0, 360.0, 10.0)
#: (shortName, level in hPa or 0, metres above ground or 0, mean, spread): what a small analysis holds.
FIELDS = [
    *(("gh", level, 0, mean, 100.0) for level, mean in ((500, 5500.0), (850, 1450.0))),
    *((name, level, 0, 5.0, 10.0) for level in (500, 850) for name in "uv"),
    *(("t", level, 0, 265.0, 10.0) for level in (500, 850)),
    *(("r", level, 0, 50.0, 20.0) for level in (500, 850)),
    ("2t", 0, 2, 285.0, 8.0),
    ("msl", 0, 0, 101300.0, 800.0),
]  # fmt: skip
STATICS = [("z", 0, 0, 3000.0, 2500.0), ("lsm", 0, 0, 0.5, 0.4)]
# What wgrib2 calls them.
_WGRIB = {
    "gh": "HGT", "u": "UGRD", "v": "VGRD", "t": "TMP", "r": "RH", "2t": "TMP:2 m above ground", "msl": "PRMSL:mean sea level",
    "z": "HGT:surface", "lsm": "LAND:surface",
}  # fmt: skip


def values(name: str, level: int, time: np.datetime64, mean: float, spread: float) -> np.ndarray:
    """A smooth field, another at each level and time, (latitude, longitude)."""
    y, x = np.radians(LATITUDE)[:, None], np.radians(LONGITUDE)[None, :]
    phase = level / 1000 + sum(map(ord, name)) + float(time.astype("datetime64[h]").astype(int) % 97)
    return mean + spread * np.cos(y) * np.cos(x + phase)


def message(name: str, level: int, height: int, mean: float, spread: float, time: np.datetime64) -> bytes:
    """One field as GRIB2."""
    handle = eccodes.codes_grib_new_from_samples(f"regular_ll_{'pl' if level else 'sfc'}_grib2")
    moment = time.astype(object)
    settings = {
        "Ni": 36, "Nj": 19, "latitudeOfFirstGridPointInDegrees": 90.0, "latitudeOfLastGridPointInDegrees": -90.0,
        "longitudeOfFirstGridPointInDegrees": 0.0, "longitudeOfLastGridPointInDegrees": 350.0,
        "iDirectionIncrementInDegrees": 10.0, "jDirectionIncrementInDegrees": 10.0,
        "dataDate": int(f"{moment:%Y%m%d}"), "dataTime": moment.hour * 100, "shortName": name,
        **({"typeOfLevel": "isobaricInhPa", "level": level} if level else {}), "bitsPerValue": 16,
    }  # fmt: skip
    for key, value in settings.items():
        eccodes.codes_set(handle, key, value)
    eccodes.codes_set_values(handle, values(name, level, time, mean, spread).ravel())
    result = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    return result


def ecmwf(time: np.datetime64, without: tuple = ()) -> dict[str, bytes]:
    """Paths and contents of an analysis as ECMWF's open data have it."""
    moment = time.astype("datetime64[s]").astype(object)
    base = f"/{moment:%Y%m%d}/{moment:%H}z/ifs/0p25/oper/{moment:%Y%m%d%H}0000-0h-oper-fc"
    content, index = b"", []
    for field in (*FIELDS, *STATICS):
        name, level, *_ = field
        if name in without:
            continue
        each = message(*field, time.astype("datetime64[s]"))
        about = {"param": name, "type": "fc", "step": "0", "levtype": "pl" if level else "sfc"}
        about |= {"levelist": str(level)} if level else {}
        index.append(json.dumps(about | {"_offset": len(content), "_length": len(each)}))
        content += each
    return {f"{base}.grib2": content, f"{base}.index": "\n".join(index).encode()}


def gfs(time: np.datetime64, without: tuple = ()) -> dict[str, bytes]:
    """Paths and contents of an analysis as NOAA has it."""
    moment = time.astype("datetime64[s]").astype(object)
    path = f"/gfs.{moment:%Y%m%d}/{moment:%H}/atmos/gfs.t{moment:%H}z.pgrb2.0p25.f000"
    content, index = b"", []
    for number, field in enumerate((*FIELDS, *STATICS), start=1):
        name, level, *_ = field
        if name in without:
            continue
        label = f"{_WGRIB[name]}:{level} mb" if level else _WGRIB[name]
        index.append(f"{number}:{len(content)}:d={moment:%Y%m%d%H}:{label}:anl:")
        content += message(*field, time.astype("datetime64[s]"))
    return {path: content, f"{path}.idx": ("\n".join(index) + "\n").encode()}


@dataclasses.dataclass
class Service:
    """A server of some files.

    Attributes:
        address: of the server.
        files: contents by path.
        faults: (part of a path, what happens: `500`, `drop` in the middle of the body, or a `short` body), each once.
        asked: paths of all requests for content, with their ranges.
    """

    address: str
    files: dict[str, bytes]
    faults: list[tuple[str, str]]
    asked: list[tuple[str, str | None]]

    def bytes_asked(self, ending: str = "") -> int:
        """Bytes of data that were asked for."""
        spans = [re.findall(r"\d+", each or "") for path, each in self.asked if path.endswith(ending)]
        return sum(int(span[1]) - int(span[0]) + 1 for span in spans if len(span) == 2)


@contextlib.contextmanager
def serve():
    """A service without files yet."""
    service = Service("", {}, [], [])

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, *, body: bool):
            content = service.files.get(self.path)
            fault = next((each for each in service.faults if each[0] in self.path), None) if body else None
            if body:
                service.asked.append((self.path, self.headers.get("Range")))
            if fault is not None:
                service.faults.remove(fault)
            if content is None or (fault is not None and fault[1] == "500"):
                self.send_error(500 if fault is not None else 404)
                return
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            whole = len(content)
            if span is not None:
                content = content[int(span[1]) : int(span[2]) + 1 if span[2] else None]
            half = content[: len(content) // 2]
            self.send_response(206 if span is not None else 200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Accept-Ranges", "bytes")
            if span is not None:
                self.send_header("Content-Range", f"bytes {span[1]}-{int(span[1]) + len(content) - 1}/{whole}")
            self.send_header("Content-Length", str(len(half if fault and fault[1] == "short" else content)))
            self.end_headers()
            if body:
                self.wfile.write(half if fault is not None else content)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    service.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
