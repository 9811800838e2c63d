"""The progress bar of long work: on standard error, so that results on standard output stay clean."""

import sys

import rich.console
import rich.progress


def progress_bar(*columns: rich.progress.ProgressColumn | str, enabled: bool = True) -> rich.progress.Progress:
    """A bar with the task's description before it, and these columns and the time left after it."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        *columns,
        rich.progress.TimeRemainingColumn(),
        # The stream of now: jobs turn away what else is printed while they run.
        console=rich.console.Console(file=sys.stderr),
        disable=not enabled,
    )
