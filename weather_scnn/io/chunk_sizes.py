"""Sizes of chunks and shards as commands are told them."""

import re
from collections.abc import Sequence

from weather_scnn.errors import UserError


def parse_chunks(text: str, dims: Sequence[str], option: str) -> dict[str, int]:
    """Sizes of chunks such as time=8,level=1.

    Raises:
        UserError: it does not read so, or names another dimension.
    """
    sizes: dict[str, int] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        match = re.fullmatch(r"(\w+)\s*=\s*(\d+)", part)
        if match is None or int(match[2]) < 1:
            raise UserError(f"{option} {text!r} is not understood", remedy=f"write it as {option} {dims[0]}=8")
        if match[1] not in dims:
            raise UserError(f"{option} names {match[1]!r}", remedy=f"choose from {', '.join(dims)}")
        sizes[match[1]] = int(match[2])
    return sizes
