"""Durations as people write them, with their unit: 6h, 10d, 90min."""

import re

import numpy as np

from weather_scnn.errors import UserError

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_PART = _NUMBER + r"\s*([A-Za-z]+)"
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_NAMES = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
}
_NANOSECONDS = 10**9
# About what 64 bits of nanoseconds hold, 292 years.
_MOST_SECONDS = 9.2e9


def parse_duration(text: str, what: str = "", *, likely: tuple[str, ...] = ("h", "d")) -> np.timedelta64:
    """A positive duration such as 6h, 10d or 1d12h; ISO 8601 (PT6H) and clock times (06:00:00) are read too.

    Args:
        text: as it was given.
        what: names it in messages, such as "--step" or "data.step".
        likely: units that a number without one may have been meant in, the likeliest first.

    Returns:
        The duration in nanoseconds.

    Raises:
        UserError: the text is not a duration, has no unit, or is not positive.
    """
    text = str(text).strip()  # a configuration file may give a number
    number = _is_number(text)
    if number and float(text) > 0:
        choices = " or ".join(f"{text}{unit}" for unit in likely)
        raise UserError(f"{what} {text} has no unit", remedy=f"write it as {choices}")
    seconds = 0.0 if number else _seconds(text)
    fault = ""
    if seconds is None:
        fault = "is not a duration"
    elif seconds * _NANOSECONDS < 1:
        fault = "is not a positive duration"
    elif seconds > _MOST_SECONDS:
        fault = "is longer than 290 years"
    if fault:
        raise UserError(f"{what} {text!r} {fault}", remedy="write it as 6h or 10d")
    assert seconds is not None
    return np.timedelta64(round(seconds * _NANOSECONDS), "ns")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", text.lower()) is not None


def _seconds(text: str) -> float | None:
    """Seconds of a duration, which may be negative; None where it is none."""
    sign, rest = (-1, text[1:].strip()) if text.startswith("-") else (1, text.removeprefix("+").strip())
    parts = re.findall(_PART, rest)
    if parts and re.fullmatch(rf"(?:{_PART}[\s,]*)+", rest):
        units = [_NAMES.get(unit.lower() if unit != "M" else "") for _, unit in parts]
        if None not in units:
            return sign * sum(float(number) * _SECONDS[unit] for (number, _), unit in zip(parts, units) if unit)
    iso = re.fullmatch(rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?", rest)
    clock = re.fullmatch(r"(?:(\d+)\s*(?:d|day|days),?\s*)?(\d+):(\d\d)(?::(\d\d(?:\.\d+)?))?", rest)
    if iso and any(iso.groups()):
        sizes = [_SECONDS[unit] for unit in ("w", "d", "h", "min", "s")]
        return sign * sum(float(number or 0) * size for number, size in zip(iso.groups(), sizes))
    if clock:
        sizes = [_SECONDS[unit] for unit in ("d", "h", "min", "s")]
        return sign * sum(float(number or 0) * size for number, size in zip(clock.groups(), sizes))
    return None
