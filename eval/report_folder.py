"""The folder a report is written into: the page, and beside it every figure as PNG and every number as CSV."""

import csv
import pathlib
from collections.abc import Iterable

from matplotlib.figure import Figure

from eval import page
from eval.figures import to_png, to_svg


class ReportFolder:
    """The folder being filled: figures and tables beside the page, whose names the page never needs."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._count = 0
        for name in ("figures", "tables"):
            (folder / name).mkdir()

    def figure(self, figure: Figure, name: str, description: str) -> str:
        """Saves the PNG and returns the SVG for the page."""
        (self.folder / "figures" / f"{name}.png").write_bytes(to_png(figure))
        self._count += 1
        return to_svg(figure, prefix=f"f{self._count}", description=page.escape(description))

    def rows(self, name: str, head: list[str], rows: Iterable[list]) -> None:
        """Saves a table as CSV."""
        with open(self.folder / "tables" / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows(rows)
