"""What a run tells: metrics.csv, validation.csv, TensorBoard events, trackers, a live bar."""

import csv
import io
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rich.console
import rich.progress
import rich.text
from etils import epath
from tensorboardX import SummaryWriter

from weather_scnn.io.atomic import write_whole
from weather_scnn.progress import progress_bar
from weather_scnn.training.scorecard import Scorecard, headline_order
from weather_scnn.training.trackers import Relay

COLUMNS = (
    "step", "loss", "validation_loss", "grad_norm", "learning_rate", "rollout_steps", "skipped_steps",
    "steps_per_second", "samples_per_second", "loader_share",
)  # fmt: skip
_ESSENTIAL = ("step", "loss", "grad_norm", "learning_rate", "rollout_steps")
VALIDATION_COLUMNS = ("step", "variable", "lead_days", "rmse", "persistence_rmse")
_QUIET_SECONDS = 30.0


class Table:
    """A CSV file of a run; on resume, lines after the checkpoint are dropped so that none stands twice.

    Args:
        path: the file; on an object store, which cannot append, it is written anew with every line.
        columns: names.
        resumed_step: step of the checkpoint the run goes on from; 0 for a new run.
    """

    def __init__(self, path: os.PathLike, columns: Sequence[str], resumed_step: int):
        self.path, self.columns = epath.Path(path), columns
        kept = [row for row in read_table(path) if int(row["step"]) <= resumed_step]
        self._text = ",".join(columns) + "\r\n" + self._lines(kept)
        write_whole(path, self._text)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends lines."""
        lines = self._lines(rows)
        if "://" in str(self.path):
            self._text += lines
            write_whole(self.path, self._text)
        else:
            with self.path.open("a") as file:
                file.write(lines)

    def _lines(self, rows: Sequence[Mapping[str, Any]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.columns, restval="", extrasaction="ignore").writerows(rows)
        return text.getvalue()


def read_table(path: os.PathLike) -> list[dict[str, str]]:
    """Lines of a table; a last line cut short by a kill is left out."""
    file = epath.Path(path)
    if not file.exists():
        return []
    text = file.read_text()
    # Only lines that were ended are whole.
    rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))
    return [row for row in rows if None not in row.values() and (row.get("step") or "").isdigit()]


def read_metrics(path: Any) -> list[dict[str, str]]:
    """Lines of metrics.csv, with the columns of this version at least."""
    rows = [row for row in read_table(path) if all(row.get(column) for column in _ESSENTIAL)]
    return [dict.fromkeys(COLUMNS, "") | row for row in rows]


class RunLog:
    """Files that tell how a run goes; only the first of several processes writes them.

    Args:
        workdir: folder of the run.
        resumed_step: step of the checkpoint the run goes on from; 0 for a new run.
        trackers: that are told the same as TensorBoard, by name.
        settings: of the run's configuration, by dotted name, for trackers.
    """

    def __init__(
        self, workdir: epath.Path, resumed_step: int, trackers: Sequence[str] = (), settings: Mapping[str, Any] = {}
    ):
        self._trackers = [Relay(name, workdir, settings, resumed=bool(resumed_step)) for name in trackers]
        self._metrics = Table(workdir / "metrics.csv", COLUMNS, resumed_step)
        self._validation = Table(workdir / "validation.csv", VALIDATION_COLUMNS, resumed_step)
        # TensorBoard hides what earlier files hold of the steps that are run again.
        purge = resumed_step + 1 if resumed_step else None
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=purge, flush_secs=30)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._events.close()
        for tracker in self._trackers:
            tracker.close(finished=kind is None)

    def step(self, row: Mapping[str, float | int], errors: Mapping[str, float]) -> None:
        """One line of metrics.csv; the errors a channel go to TensorBoard and trackers alone."""
        self._metrics.write([row])
        told = {f"training/{key}": value for key, value in row.items() if key != "step"}
        self._tell(int(row["step"]), told | {f"error/{_tag(name)}": value for name, value in errors.items()})

    def validation(self, step: int, card: Scorecard) -> None:
        """RMSE a lead and channel, beside that of persistence."""
        rows, told = [], {}
        for lead, days in enumerate(card.days):
            for index, name in enumerate(card.names):
                rmse, persistence = card.rmse[lead, index], card.persistence[lead, index]
                rows.append(
                    dict(zip(VALIDATION_COLUMNS, (step, name, f"{days:g}", f"{rmse:.6g}", f"{persistence:.6g}")))
                )
                told[f"rmse_{days:g}d/{_tag(name)}"] = float(rmse)
                told[f"rmse_{days:g}d_over_persistence/{_tag(name)}"] = float(rmse / persistence)
        self._validation.write(rows)
        self._tell(step, told)

    def long_run(self, step: int, name: str, days: float, error: float) -> None:
        """The error of the time means of a long run, as a line of validation.csv under a name of its own."""
        self._validation.write([dict(zip(VALIDATION_COLUMNS, (step, name, f"{days:g}", f"{error:.6g}", "")))])
        self._tell(step, {"long_run_error": error})

    def _tell(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._events.add_scalar(key, value, step)
        for tracker in self._trackers:
            tracker.tell(step, values)


def _tag(name: str) -> str:
    return name.replace(" at ", "_").replace(" hPa", "").replace(" ", "_")


def scorecard_lines(step: int, card: Scorecard, most: int = 3) -> list[str]:
    """A few lines for a terminal of 80 columns: RMSE, and that of persistence in brackets."""
    leads = ", ".join(f"{days:g}" for days in card.days)
    lines = [f"step {step}: RMSE at {leads} days, in brackets that of persistence"]
    shown = headline_order(card.names)[:most]
    width = max(len(card.names[index]) for index in shown)
    for index in shown:
        pairs = "  ".join(
            f"{_short(one)} ({_short(other)})" for one, other in zip(card.rmse[:, index], card.persistence[:, index])
        )
        lines.append(f"  {card.names[index]:<{width}}  {pairs}")
    return lines


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


class _BarWithReport(rich.progress.Progress):
    """The newest numbers stand under the bar, so that both fit into 80 columns."""

    report = "compiling the first step"

    def get_renderables(self) -> Iterable[rich.console.RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield rich.text.Text(self.report, style="dim")


class Display:
    """What a person sees: a bar in a terminal; in a log file, a line now and then.

    Args:
        total: steps of the run.
        done: steps taken before.
        enabled: whether to show anything.
    """

    def __init__(self, total: int, done: int, *, enabled: bool):
        self.total, self.enabled = total, enabled
        plain = progress_bar(rich.progress.MofNCompleteColumn(), enabled=enabled and sys.stderr.isatty())
        self._bar = _BarWithReport(*plain.columns, console=plain.console, disable=plain.disable)
        self._task = self._bar.add_task("train", total=total, completed=done)
        self._printed = -float("inf")
        self._done = done

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def say(self, *lines: str) -> None:
        """Prints lines, above the bar where there is one."""
        if self.enabled:
            for line in lines:
                self._bar.console.print(rich.text.Text(line), soft_wrap=True)

    def advance(self, step: int) -> None:
        """One step more."""
        self._done = step
        self._bar.update(self._task, completed=step)

    def report(self, row: Mapping[str, float | int]) -> None:
        """The newest numbers."""
        text = (
            f"{_rate(row['steps_per_second'])} steps/s  {_rate(row['samples_per_second'])} samples/s  "
            f"loss {row['loss']:.4f}  |g| {row['grad_norm']:.3f}"
        )
        self._bar.report = text
        now = time.monotonic()
        if self._bar.disable and (now - self._printed > _QUIET_SECONDS or row["step"] == self.total):
            self._printed = now
            self.say(f"step {row['step']}/{self.total}  {text}")


def _rate(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
