"""Errors made for the person who runs a command."""

import functools


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
