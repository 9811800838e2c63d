"""Remote addresses: what lies there, and the options for reaching it (credentials, anonymous access, who pays).

Options are handed to fsspec's own configuration, which every reader and writer of this package goes through, Zarr
included. `weather-scnn … --storage-option token=anon` sets them for one command; fsspec's environment variables do so
for all, workers of a job included: FSSPEC_GS='{"token": "anon"}' or FSSPEC_GS_REQUESTER_PAYS=my-project.
"""

import difflib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import fsspec
import fsspec.config

from weather_scnn.errors import NothingThere, UserError

# gcsfs would first ask a bucket's kind by gRPC, for a feature still called experimental, and wait a minute where only
# the JSON API answers: behind a proxy, at an emulator.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

ZARR_MARKS = ("zarr.json", ".zmetadata", ".zgroup")
NETCDF_ENDINGS = (".nc", ".nc4", ".cdf", ".netcdf", ".h5", ".hdf5")
GRIB_ENDINGS = (".grib", ".grib1", ".grib2", ".grb", ".grb1", ".grb2", ".gb2", ".gb")
#: How addresses of datasets in memory begin.
IN_MEMORY = "dataset in memory #"
GLOB_MARKS = "*?["
#: Services whose analyses are fetched where they are named in place of a path; see `live_sources`.
LIVE = ("ecmwf-open-data", "noaa-gfs")
_CLOUDS = ("gs", "gcs", "s3", "s3a", "az", "abfs", "abfss")


def is_remote(path: str) -> bool:
    """Whether a path is an fsspec address."""
    return "://" in path or "::" in path


def is_live(path: str) -> bool:
    """Whether this names a service, see `LIVE`; a file or folder of that name goes before."""
    return path in LIVE and not os.path.exists(path)


def expanded(path: str) -> str:
    """A path whose ~ is the home folder: a shell leaves it alone after an equals sign."""
    return path if is_remote(path) else os.path.expanduser(path)


def located(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system and the path in it. Listings are fetched anew: Zarr writes through an instance of its own."""
    filesystem, root = fsspec.core.url_to_fs(str(path))
    filesystem.invalidate_cache()
    return filesystem, root


def is_glob(path: str) -> bool:
    """Whether a path is a pattern; a file that has such a name goes before."""
    return any(mark in path for mark in GLOB_MARKS) and (is_remote(path) or not os.path.exists(path))


_NETCDF_IN_PATH = re.compile(r"(?P<file>.+\.(?:nc4?|cdf|netcdf|h5|hdf5))(?:/|#)(?P<group>[^#]+)", re.IGNORECASE)


def file_and_group(path: str) -> tuple[str, str | None]:
    """The file and the group in it that PATH/GROUP or PATH#GROUP names; the group is None where a file is named."""
    match = _NETCDF_IN_PATH.fullmatch(path.rstrip("/"))
    in_folder = match is not None and match["group"].lower().endswith(
        (".nc", ".nc4", ".cdf", ".netcdf", ".h5", ".hdf5")
    )
    if match is None or in_folder or pathlib.Path(path).exists() or pathlib.Path(match["file"]).is_dir():
        return path, None
    return match["file"], match["group"].strip("/") or None


def is_in_memory(path: str) -> bool:
    """Whether this is the address of a dataset in memory; see `in_memory`."""
    return path.startswith(IN_MEMORY)


def require_there(path: str) -> None:
    """Refuses a local path where nothing is, before what reads it is even loaded.

    Raises:
        UserError: there is nothing, and the nearest name is told; or it names a service.
    """
    if is_in_memory(path) or is_remote(path) or is_glob(path) or os.path.exists(file_and_group(path)[0]):
        return
    if is_live(path):
        raise NothingThere(
            "is a service, whose analyses are to be fetched first",
            where=path,
            remedy=f"make a store of them with weather-scnn regrid --input {path}",
        )
    target = pathlib.Path(path)
    siblings = os.listdir(target.parent) if target.parent.is_dir() else []
    close = difflib.get_close_matches(target.name, siblings, n=1)
    service = difflib.get_close_matches(path.lower().replace("_", "-"), LIVE, n=1)
    remedy = f"did you mean {target.parent / close[0]}?" if close else "check the path"
    if service and not close:
        remedy = f"did you mean {service[0]}?"
    raise NothingThere("there is no such file or folder", where=path, remedy=remedy)


def set_storage_options(assignments: Iterable[str]) -> None:
    """Sets options of remote file systems for this process and those it starts.

    Args:
        assignments: `key=value`, for every cloud (gs, s3, az), or `protocol.key=value` for one protocol. Values are
            read as JSON where they are, else as text: token=anon, requester_pays=my-project, gs.project=other,
            http.client_kwargs={"trust_env":true}.

    Raises:
        UserError: an assignment has no = or no key.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        protocol, dot, option = key.strip().rpartition(".")
        if not equals or not option or (dot and not protocol):
            raise UserError(
                f"the storage option {assignment!r} does not read as key=value",
                remedy="write token=anon or gs.requester_pays=my-project",
            )
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        for name in (protocol,) if protocol else _CLOUDS:
            options = fsspec.config.conf.setdefault(name, {})
            options[option] = value
            os.environ[f"FSSPEC_{name.upper()}"] = json.dumps(options)


def unreachable(path: str, error: BaseException) -> NothingThere:
    """The error for an address that cannot be read, with the likely remedy."""
    words = " ".join(str(error).split()) or type(error).__name__
    lower = f"{type(error).__name__} {words}".lower()
    remedy = "check the address, your connection and your credentials"
    if "requester pays" in lower or "userproject" in lower.replace(" ", ""):
        remedy = "name the project that pays with --storage-option requester_pays=PROJECT"
    elif any(
        mark in lower for mark in ("anonymous", "credential", "401", "403", "forbidden", "unauthorized", "denied")
    ):
        remedy = "log in (gcloud auth application-default login), or for public data add --storage-option token=anon"
    elif isinstance(error, ImportError):
        remedy = "install the fsspec package that serves this protocol, such as s3fs for s3://"
    return NothingThere(f"cannot be read ({type(error).__name__}: {words[:200]})", where=path, remedy=remedy)


def _full_names(filesystem: Any, names: Sequence[str]) -> list[str]:
    return sorted(filesystem.unstrip_protocol(name) for name in names)


def list_remote(path: str, endings: tuple[str, ...], folders: Mapping[str, tuple[str, ...]]) -> tuple[str, list[str]]:
    """What an fsspec address names: (format, stores) or ("files", addresses of files).

    Args:
        path: address of a store, a file or a folder of files, or a glob of stores or files.
        endings: lower-case endings of the files that count in a folder.
        folders: names in a folder that tell its format, by format.

    Raises:
        UserError: nothing is there, or it cannot be reached.
    """
    pattern = is_glob(path)
    if "::" in path:
        # A chain such as zip::https://… has no single file system to list.
        return ("files", [path]) if path.lower().endswith(endings) else ("zarr", [path.rstrip("/")])
    try:
        filesystem, root = fsspec.core.url_to_fs(path)
        root = root.rstrip("/")

        def format_of(name: str) -> str | None:
            result = (kind for kind, marks in folders.items() if any(filesystem.exists(f"{name}/{m}") for m in marks))
            return next(result, None)

        if pattern:
            names = filesystem.glob(root)
            if not names:
                raise NothingThere(
                    "no file matches", where=path, remedy="check the pattern, and quote it for the shell"
                )
            files = [name for name in names if str(name).lower().endswith(endings)]
            if files:
                return "files", _full_names(filesystem, files)
            kinds = {name: kind for name in names if (kind := format_of(name)) is not None}
            if kinds:
                first = next(iter(kinds.values()))
                return first, _full_names(filesystem, [name for name, kind in kinds.items() if kind == first])
            raise UserError("no Zarr, netCDF or GRIB matches", where=path, remedy="check the pattern")
        if root.lower().endswith(endings):
            if not filesystem.exists(root):
                raise NothingThere("there is nothing at this address", where=path, remedy="check its spelling")
            return "files", [path]
        if (kind := format_of(root)) is not None:
            return kind, [path.rstrip("/")]
        if filesystem.isdir(root):
            files = [name for name in filesystem.find(root) if str(name).lower().endswith(endings)]
            if files:
                return "files", _full_names(filesystem, files)
        elif filesystem.exists(root):
            return "files", [path]
    except UserError:
        raise
    except Exception as error:  # every protocol has errors of its own
        raise unreachable(path, error) from error
    raise NothingThere(
        "there is no Zarr store, netCDF or GRIB file at this address",
        where=path,
        remedy="check its spelling, and that it names the store itself",
    )


def fetched(addresses: Sequence[str]) -> list[str]:
    """Local copies of remote files, made once a process: HDF5 and GRIB need files that can be sought in.

    Raises:
        UserError: one cannot be fetched.
    """
    try:
        chains = [f"simplecache::{address}" for address in addresses]
        return list(fsspec.open_local(chains, simplecache={"same_names": True}))
    except Exception as error:
        raise unreachable(addresses[0], error) from error
