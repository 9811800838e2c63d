"""Files that are there whole or not at all, with the permissions that the user's umask gives."""

import contextlib
import os
import pathlib
import secrets
import tempfile
from collections.abc import Callable, Iterator

from weather_scnn.errors import UserError, place_fault

UNFINISHED = ".part"
# What a disk must still take, so that an error of netCDF's is not laid to it.
_PROBE_BYTES = 2**16


@contextlib.contextmanager
def whole_file(path: str | os.PathLike, put: Callable[[pathlib.Path], None] | None = None) -> Iterator[pathlib.Path]:
    """A file to be written that takes the name `path` at once when the block ends, and goes if it fails.

    It is born in the same folder like any other file: Python's own temporary files are for their owner alone, and stay
    so when they are renamed.

    Args:
        path: of the file.
        put: brings a file that is not to lie on this machine to its place.

    Raises:
        UserError: the disk is full or the like, also where a library hides it: netCDF calls it an HDF error.
    """
    if put is not None:
        handle, name = tempfile.mkstemp(suffix=UNFINISHED)
        os.close(handle)
        part = pathlib.Path(name)
    else:
        target = pathlib.Path(os.path.realpath(os.path.expanduser(path)))
        part = target.parent / f".{target.name}.{secrets.token_hex(6)}{UNFINISHED}"
        part.touch(exist_ok=False)
    try:
        yield part
        if put is not None:
            put(part)
        else:
            os.replace(part, target)
    except (OSError, RuntimeError) as error:
        fault = place_fault(error, str(path)) or _hidden_fault(part, str(path))
        if fault is None:
            raise
        raise UserError(fault.what, where=str(path), remedy=fault.remedy) from error
    finally:
        part.unlink(missing_ok=True)


def _hidden_fault(part: pathlib.Path, where: str) -> UserError | None:
    """What the system says of writing a little beside a file that could not be written; None where it can be."""
    probe = part.with_name(f"{part.name}.probe")
    try:
        try:
            probe.write_bytes(bytes(_PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return place_fault(error, where)
    return None
