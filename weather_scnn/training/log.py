"""What a run tells: metrics.csv, a live bar, curves."""

import csv
import itertools
import pathlib
from collections.abc import Mapping

import rich.progress

from weather_scnn.progress import progress_bar

COLUMNS = ("step", "loss", "validation_loss", "grad_norm", "learning_rate", "rollout_steps", "steps_per_second")


class MetricsLog:
    """RUN/metrics.csv; on resume, lines after the checkpoint are dropped so that none stands twice.

    Args:
        workdir: folder of the run.
        resumed_step: step of the checkpoint the run goes on from; 0 for a new run.
    """

    def __init__(self, workdir: pathlib.Path, resumed_step: int):
        self.path = workdir / "metrics.csv"
        kept = [row for row in read_metrics(self.path) if int(row["step"]) <= resumed_step]
        part = self.path.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)
        part.replace(self.path)

    def write(self, row: Mapping[str, float | int | str]) -> None:
        """Appends a line."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, restval="").writerow(row)


def read_metrics(path: pathlib.Path) -> list[dict[str, str]]:
    """Lines of a metrics file; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(row.get(column) is not None for column in COLUMNS) and row["step"].isdigit()]


def training_bar(*, enabled: bool) -> rich.progress.Progress:
    """Steps with rate, time left, loss and gradient norm."""
    return progress_bar(rich.progress.MofNCompleteColumn(), "{task.fields[report]}", enabled=enabled)


def draw_curves(workdir: pathlib.Path) -> None:
    """RUN/curves.png: loss, gradient norm and learning rate against step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = read_metrics(workdir / "metrics.csv")
    if not rows:
        return
    steps = [int(row["step"]) for row in rows]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for axis, column, title in zip(
        axes, ("loss", "grad_norm", "learning_rate"), ("loss", "gradient norm", "learning rate")
    ):
        axis.plot(steps, [float(row[column]) for row in rows], linewidth=1.2, color="#1f5a96", label="training")
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.25)
        if column != "learning_rate":
            axis.set_yscale("log")
    watched = [(int(row["step"]), float(row["validation_loss"])) for row in rows if row["validation_loss"]]
    if watched:
        axes[0].plot(*zip(*watched), "o-", color="#c2571a", markersize=3.5, label="validation")
        axes[0].legend(frameon=False)
    changes = [b for a, b in itertools.pairwise(rows) if a["rollout_steps"] != b["rollout_steps"]]
    for row in changes:
        for axis in axes:
            axis.axvline(int(row["step"]), color="#888888", linestyle=":", linewidth=1)
    part = workdir / "curves.part.png"
    figure.savefig(part, dpi=120)
    plt.close(figure)
    part.replace(workdir / "curves.png")
