"""Curves of a run as pictures: curves.png of the training, validation.png of its forecasts against persistence."""

import concurrent.futures
import io
import itertools
from typing import Any

from etils import epath

from weather_scnn.catalogue.naming import lookup
from weather_scnn.io.atomic import write_whole
from weather_scnn.training.log import read_metrics, read_table
from weather_scnn.training.scorecard import headline_order

_BLUE, _ORANGE, _GREY = "#1f5a96", "#c2571a", "#888888"
_LEADS = ("#9dc3e6", "#4a8ac9", "#1f4e79", "#0b2540")


class CurveDrawer:
    """Draws in a thread of its own, so that training does not wait; requests that come meanwhile are one.

    Args:
        workdir: folder of the run.
    """

    def __init__(self, workdir: epath.Path):
        self.workdir = workdir
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="curves")
        self._running: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> "CurveDrawer":
        return self

    def __exit__(self, *_: Any) -> None:
        self._pool.shutdown()

    def request(self, *, last: bool = False) -> None:
        """Draws with what is written now; with `last`, returns when it is done."""
        if self._running is not None and (last or self._running.done()):
            self._running.result()
            self._running = None
        if self._running is None:
            self._running = self._pool.submit(draw_curves, self.workdir)
        if last:
            self._running.result()


def draw_curves(workdir: Any) -> None:
    """Draws both pictures from the tables of a run; each is replaced at once."""
    workdir = epath.Path(workdir)
    for name, figure in (("curves", _training_figure(workdir)), ("validation", _validation_figure(workdir))):
        if figure is None:
            continue
        picture = io.BytesIO()
        figure.savefig(picture, dpi=120, format="png")
        write_whole(workdir / f"{name}.png", picture.getvalue())


def _figure(rows: int, columns: int, height: float) -> tuple[Any, Any]:
    # Not pyplot, whose figures belong to the main thread.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _training_figure(workdir: epath.Path) -> Any:
    rows = read_metrics(workdir / "metrics.csv")
    if not rows:
        return None
    figure, grid = _figure(1, 3, 3.4)
    axes = grid[0]
    for axis, column, title in zip(
        axes, ("loss", "grad_norm", "learning_rate"), ("loss", "norm of the gradient", "learning rate")
    ):
        _plot_by_stage(axis, rows, column, label="training", linewidth=1.2, color=_BLUE)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.25)
        if column != "learning_rate":
            axis.set_yscale("log")
    watched = [row for row in rows if row["validation_loss"]]
    if watched:
        _plot_by_stage(
            axes[0],
            watched,
            "validation_loss",
            label="validation",
            linewidth=1.2,
            color=_ORANGE,
            marker="o",
            markersize=3,
        )
        axes[0].legend(frameon=False, loc="lower left", fontsize=8)
    for before, after in itertools.pairwise(rows):
        if before["rollout_steps"] != after["rollout_steps"]:
            for axis in axes:
                axis.axvline(int(before["step"]), color=_GREY, linestyle=":", linewidth=1)
            axes[0].annotate(
                f"{after['rollout_steps']} steps", (int(before["step"]), 1), xycoords=("data", "axes fraction"),
                xytext=(3, -10), textcoords="offset points", color=_GREY, fontsize=8,
            )  # fmt: skip
    return figure


def _plot_by_stage(axis: Any, rows: list[dict[str, str]], column: str, *, label: str, **style: Any) -> None:
    """One line for each length of rollout: losses of different lengths are not to be joined."""
    for index, (_, stage) in enumerate(itertools.groupby(rows, key=lambda row: row["rollout_steps"])):
        points = [(int(row["step"]), float(row[column])) for row in stage]
        axis.plot(*zip(*points), label=None if index else label, **style)


def _unit(name: str) -> str:
    variable = lookup(name.partition(" at ")[0])
    return variable.unit if variable is not None else "m s-1" if "wind" in name else ""


def _validation_figure(workdir: epath.Path) -> Any:
    rows = [row for row in read_table(workdir / "validation.csv") if row["persistence_rmse"]]  # long runs have none
    names = tuple(dict.fromkeys(row["variable"] for row in rows))
    leads = sorted({float(row["lead_days"]) for row in rows})
    if not rows:
        return None
    shown = [names[index] for index in headline_order(names)[:6]]
    columns = min(3, len(shown))
    figure, grid = _figure(-(-len(shown) // columns), columns, 3.0)
    for axis, name in itertools.zip_longest(grid.flat, shown):
        if name is None:
            axis.set_axis_off()
            continue
        for lead, colour in zip(leads, itertools.cycle(_LEADS)):
            line = [row for row in rows if row["variable"] == name and float(row["lead_days"]) == lead]
            steps = [int(row["step"]) for row in line]
            axis.plot(
                steps, [float(row["rmse"]) for row in line], "o-", color=colour, markersize=3, label=f"{lead:g} d"
            )
            axis.axhline(float(line[-1]["persistence_rmse"]), color=colour, linestyle="--", linewidth=1)
        axis.set(title=name, xlabel="step", ylabel=f"RMSE, {_unit(name)}".rstrip(", "))
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
    grid.flat[0].legend(frameon=False, title="dashed: persistence", fontsize=8, title_fontsize=8)
    return figure
