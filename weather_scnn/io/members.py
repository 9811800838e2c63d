"""Ensemble members: of several the first is read, or the one asked for."""

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.axis_names import name_axes
from weather_scnn.io.notes import Notes, logger, note


def lacking_member(member: int, held: Iterable[int], where: str) -> UserError:
    """What to say of a member that is not among those there are."""
    numbers = sorted(held)
    if not numbers:
        what = f"has no ensemble members, and member {member} is asked for"
        return UserError(what, where=where, remedy="leave --member out")
    some = f"choose from {', '.join(map(str, numbers[:12]))}{' …' if len(numbers) > 12 else ''}"
    return UserError(f"has no ensemble member {member}", where=where, remedy=some)


def tell_first_member(numbers: Sequence[int] | np.ndarray, where: str, notes: Notes) -> None:
    """Says that of several members the first alone is read."""
    logger.warning("%s holds %d ensemble members; number %s alone is read", where, len(numbers), numbers[0])
    note(notes, "ensemble_member", "", f"number {numbers[0]} of {len(numbers)} members")


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
        raise lacking_member(member, held, path)


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
        raise lacking_member(kept, numbers, path)
    if member is None:
        tell_first_member(numbers, path, notes)
    return [(where, piece) for where, piece in pieces if piece.attrs.get("number", kept) == kept]
