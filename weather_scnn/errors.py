"""Errors made for the person who runs a command."""

import errno
import functools
import os


class UserError(Exception):
    """Something the user can mend, told in one line: what was found, where, and the remedy.

    The command line prints it on standard error and exits with status 1; a traceback appears only with `--debug`.

    Args:
        what: what was found, against what was expected.
        where: the file, variable, time or key concerned; empty if `what` already says it.
        remedy: what to do next, as an imperative.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str):
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __reduce__(self) -> tuple:
        # Workers in other processes send their errors pickled; `where` and `remedy` go by keyword.
        return functools.partial(type(self), self.what, where=self.where, remedy=self.remedy), ()

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return " ".join(f"{place}{self.what}; {self.remedy}".split())


class NothingThere(UserError):
    """Nothing lies at an address, or it cannot be reached: there is nothing to report on."""


# What keeps a place from being written to, and what to do about it.
_PLACE_FAULTS = {
    errno.ENOSPC: ("the disk is full", "free some space and repeat the same command"),
    errno.EDQUOT: (
        "your quota of this disk is used up",
        "free some space or choose another place, and repeat the command",
    ),
    errno.EROFS: ("this place is read-only", "choose another place"),
    errno.EACCES: ("permission denied", "choose another place or change its permissions"),
    errno.EPERM: ("permission denied", "choose another place or change its permissions"),
    errno.EFBIG: ("a file would be larger than is allowed here", "choose another place or raise the limit (ulimit -f)"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.ENOTDIR: ("part of this path is a file, not a folder", "choose another place"),
    errno.EISDIR: ("is a folder, not a file", "choose another place"),
    errno.EBUSY: ("is in use, perhaps as a mount point", "choose another place"),
}
# Libraries hand these on as text alone, workers of other processes too.
_TOLD_AS_TEXT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def place_fault(error: BaseException, where: str = "") -> UserError | None:
    """What is wrong with the place that is written to, if that is what an error tells: full, read-only, out of quota.

    Args:
        error: from the system, or from a library that passes on the system's words.
        where: the place, if the error does not name it.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number not in _PLACE_FAULTS:
        number = next((each for each in _TOLD_AS_TEXT if os.strerror(each) in str(error)), None)
    if number is None:
        return None
    what, remedy = _PLACE_FAULTS[number]
    named = error.filename if isinstance(error, OSError) else None
    return UserError(what, where=str(named or where or "the output"), remedy=remedy)
