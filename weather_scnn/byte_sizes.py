"""Sizes in bytes, as people write and read them."""

import re

from weather_scnn.errors import UserError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_bytes(text: str) -> int:
    """Bytes of a size such as 1.5GB, 800MB or 2GiB.

    Raises:
        UserError: it does not read as a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if match is None:
        raise UserError(f"the size {text!r} is not understood", remedy="write it as 1.5GB or 800MB")
    unit = _UNITS[match[2]] if not match[3] else 1024 ** " kmgt".index(match[2] or " ")
    return int(float(match[1]) * unit)


def in_words(count: float) -> str:
    """Bytes as people read them."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
