"""ECMWF's open data by its own client: the first step of the IFS forecast, which is the analysis, at 0.25°.

The environment variable WEATHER_SCNN_ECMWF_OPEN_DATA names another of the client's sources (aws, ecmwf, google, azure), or
the address of a mirror. ECMWF asks to be named where its data are used (CC BY 4.0).
"""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from weather_scnn.catalogue.level_numbers import Level
from weather_scnn.catalogue.naming import identify
from weather_scnn.catalogue.variables import Variable
from weather_scnn.errors import NothingThere, UserError

ADDRESS = "WEATHER_SCNN_ECMWF_OPEN_DATA"
# ECMWF itself keeps some days and limits its connections; the copy at AWS keeps all.
_DEFAULT = "aws"
_TRIES, _RETRY_SECONDS = 4, 2
_ISOBARIC = "isobaricInhPa"


@contextlib.contextmanager
def _client() -> Iterator[Any]:
    """The client, whose words go to standard error, and its bars to a terminal alone."""
    try:
        from ecmwf.opendata import Client
    except ImportError as error:
        raise UserError(
            "needs the package ecmwf-opendata", where="ecmwf-open-data", remedy="pip install 'weather-scnn[live]'"
        ) from error
    for name in ("ecmwf.opendata", "multiurl"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # of fields that are not there, and of each try
    source = os.environ.get(ADDRESS) or _DEFAULT
    # Object stores and plain servers answer one range at a time.
    ranges = {"source_accept_ranges": True, "source_accept_multiple_ranges": False} if "://" in source else {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if not sys.stderr.isatty():
            stack.enter_context(contextlib.redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
        try:
            yield Client(source=source, maximum_retries=_TRIES, retry_after=_RETRY_SECONDS, **ranges)
        except ValueError as error:
            if "Unknown source" not in str(error):
                raise
            raise UserError(
                f"{source!r} is no source of open data",
                where=ADDRESS,
                remedy="name ecmwf, aws, google, azure, or an address that begins with https://",
            ) from error


def latest() -> np.datetime64:
    """The newest time whose analysis is there.

    Raises:
        UserError: there is none of the last two days.
    """
    with _client() as client:
        try:
            return np.datetime64(client.latest(type="fc", step=0), "ns")
        except ValueError as error:
            if "Cannot establish" not in str(error):
                raise
            raise NothingThere(
                "has no analysis of the last two days",
                where=client.url,
                remedy=f"try later, or name another copy in {ADDRESS}",
            ) from error


def fetch(time: np.datetime64, variable: Variable, levels: Sequence[Level]) -> dict[Level, bytes]:
    """GRIB messages by level, 0 for a field without levels; those that the analysis has.

    Raises:
        UserError: there is no analysis of that time.
    """
    import requests

    moment = pd.Timestamp(time)
    names = [*variable.short_names, *(["z"] if variable.name == "geopotential_at_surface" else [])]
    request = {
        "date": f"{moment:%Y%m%d}", "time": moment.hour, "type": "fc", "step": 0, "param": names,
        "levtype": "pl" if variable.on_levels else ["sfc", "sol"],
    }  # fmt: skip
    if levels:
        request["levelist"] = [f"{level:g}" for level in levels]
    with tempfile.TemporaryDirectory() as folder, _client() as client:
        target = os.path.join(folder, "messages.grib2")
        try:
            client.retrieve(request, target)
        except ValueError as error:
            if "Cannot find index entries" in str(error):
                return {}
            raise
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code not in (403, 404, 410):
                raise
            raise NothingThere(
                f"there is no analysis of {moment:%Y-%m-%dT%H}",
                where=client.url,
                remedy=f"give a time that is there, or name a copy that keeps it in {ADDRESS}",
            ) from error
        found = _messages(target, variable)
    return {level: found[level] for level in levels or (0,) if level in found}


def _messages(path: str, variable: Variable) -> dict[Level, bytes]:
    """Messages of a file that hold the variable, by level."""
    import eccodes

    found: dict[Level, bytes] = {}
    with open(path, "rb") as file:
        while (message := eccodes.codes_grib_new_from_file(file)) is not None:
            try:
                name, kind, number = (
                    eccodes.codes_get(message, key) for key in ("shortName", "typeOfLevel", "paramId")
                )
                known = identify(
                    name, {"GRIB_paramId": number, "GRIB_typeOfLevel": kind}, on_levels=kind.startswith("isobaric")
                )
                if known is not None and known.name == variable.name:
                    level = eccodes.codes_get(message, "level") if kind == _ISOBARIC else 0
                    found.setdefault(level, eccodes.codes_get_message(message))
            finally:
                eccodes.codes_release(message)
    return found
