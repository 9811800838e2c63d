"""Ensemble members: of several the first is read, or the one asked for."""

import numpy as np
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.axis_names import name_axes
from weather_scnn.io.notes import Notes, logger, note


def require_member(raw: list[tuple[str, xr.Dataset]], path: str, member: int) -> None:
    """Refuses a member that no file holds; fields that all members share may stand beside those of one."""
    held: set[int] = set()
    for where, dataset in raw:
        named = name_axes(dataset, where)
        if "number" in named.variables:
            held |= {int(number) for number in np.atleast_1d(named["number"].values).ravel()}
        elif "number" in named.dims:
            held |= set(range(named.sizes["number"]))
    if member not in held:
        some = f"choose from {', '.join(map(str, sorted(held)[:12]))}{' …' if len(held) > 12 else ''}"
        raise UserError(
            f"has no ensemble member {member}"
            if held
            else f"has no ensemble members, and member {member} is asked for",
            where=path,
            remedy=some if held else "leave --member out",
        )


def pieces_of_one_member(
    pieces: list[tuple[str, xr.Dataset]], path: str, notes: Notes, member: int | None
) -> list[tuple[str, xr.Dataset]]:
    """Pieces of one ensemble member, where files or messages hold one each."""
    numbers = sorted({piece.attrs["number"] for _, piece in pieces if "number" in piece.attrs})
    if not numbers or (len(numbers) == 1 and member is None):
        return pieces
    kept = numbers[0] if member is None else member
    if kept not in numbers:
        if numbers == [0]:
            return pieces  # a deterministic field among members, or a number that means nothing
        raise UserError(
            f"has no ensemble member {kept}",
            where=path,
            remedy=f"choose from {', '.join(map(str, numbers[:12]))}{' …' if len(numbers) > 12 else ''}",
        )
    if member is None:
        logger.warning("%s holds %d ensemble members; number %s alone is read", path, len(numbers), kept)
        note(notes, "ensemble_member", "", f"number {kept} of {len(numbers)} members")
    return [(where, piece) for where, piece in pieces if piece.attrs.get("number", kept) == kept]
