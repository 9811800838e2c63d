"""The page of a run: how good it is, for which molecules, and how it got there. One file that works offline."""

import io
import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import numpy as np
from jaxtyping import Float

from eval.reporting.page import document, facts, panels, paragraph, section, tile
from examples.qm9.molecules import Molecules
from examples.qm9.published import PUBLISHED
from weather_scnn.io.atomic import write_whole

_OURS, _THEIRS, _FAINT = "#1f5a96", "#c2571a", "#888888"


def _svg(draw: Any, xlabel: str, ylabel: str, title: str) -> str:
    """A figure as SVG; not pyplot, whose figures belong to the main thread."""
    figure = matplotlib.figure.Figure(figsize=(4.6, 3.8), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.locator_params(axis="x", nbins=6)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.StringIO()
    figure.savefig(picture, format="svg")
    text = picture.getvalue()
    return text[text.index("<svg") :]


def write_page(
    folder: pathlib.Path,
    result: Mapping[str, Any],
    test: Molecules,
    found: Float[np.ndarray, " n"],
    truth: Float[np.ndarray, " n"],
    atoms: Float[np.ndarray, " n"],
    curve: list[dict[str, float]],
) -> pathlib.Path:
    """Writes FOLDER/index.html and returns its path.

    Args:
        folder: of the run.
        result: what `train --json` writes.
        test: molecules of the test.
        found: their property, predicted, in its unit.
        truth: the same, computed by density functional theory.
        atoms: what the composition tells of it, which the parity plot leaves out; zero for properties that do not add up.
        curve: rows of the learning curve.
    """
    unit, target = result["unit"], result["target"]
    errors = np.abs(found - truth)

    def parity(axes: Any) -> None:
        both = np.stack([truth, found]) - atoms
        ends = [both.min(), both.max()]
        axes.plot(ends, ends, color=_FAINT, linewidth=1)
        axes.scatter(*both, s=5, color=_OURS, alpha=0.5, linewidths=0, rasterized=True)

    def by_size(axes: Any) -> None:
        sizes = np.unique(test.counts)
        means = [errors[test.counts == size].mean() for size in sizes]
        axes.bar(sizes, means, color=_OURS)
        for size, mean in zip(sizes, means):
            axes.annotate(
                str((test.counts == size).sum()), (size, mean), ha="center", va="bottom", fontsize=6, color=_FAINT
            )

    def learning(axes: Any) -> None:
        minutes = [row["seconds"] / 60 for row in curve]
        axes.plot(minutes, [row["training_mae"] for row in curve], color=_FAINT, label="training")
        axes.plot(minutes, [row["validation_mae"] for row in curve], color=_OURS, marker="o", ms=3, label="validation")
        axes.axhline(result["coulomb_mae"], color=_THEIRS, linestyle="--", label="kernel ridge (test)")
        axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=8)

    less = " less its atoms'" if atoms.any() else ""
    figures = [
        _svg(parity, f"computed{less}, {unit}", f"predicted{less}, {unit}", "Parity on test molecules"),
        _svg(by_size, "atoms of the molecule", f"mean absolute error, {unit}", "Error by size (molecules above)"),
        _svg(learning, "minutes of training", f"mean absolute error, {unit}", "Learning curve"),
    ]
    tiles = [
        tile(f"{result['mae']:.4g} {unit}", f"mean absolute error on {len(test)} molecules"),
        tile(f"{result['coulomb_mae']:.4g} {unit}", "kernel ridge regression on sorted Coulomb matrices"),
        tile(f"{result['composition_mae']:.4g} {unit}", "linear fit to the composition"),
    ]
    others = ", ".join(f"{name} {values[target]:g}" for name, values in PUBLISHED.items())
    body = [
        f"<h1>QM9: {target}</h1>",
        paragraph(
            f"A spherical CNN on the surroundings of each atom, trained on {result['molecules']:,} molecules for "
            f"{result['training_seconds'] / 60:.1f} minutes; the baselines learned from the same molecules.",
            kind="lead",
        ),
        f'<div class="tiles">{"".join(tiles)}</div>',
        section("figures", "Predictions", panels(figures)),
        section(
            "run",
            "The run",
            facts(
                (name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else value)
                for name, value in result.items()
            ),
            paragraph(f"Published by others, on about 100,000 training molecules, in {unit}: {others}.", kind="note"),
        ),
    ]
    path = folder / "index.html"
    write_whole(path, document(f"QM9: {target}", "\n".join(body)))
    return path
