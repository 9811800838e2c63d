"""The folder a report is written into: the page, and beside it every figure as PNG and every number as CSV."""

import csv
import pathlib
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from eval.reporting import page
from eval.reporting.figure_style import to_png, to_svg


class ReportFolder:
    """The folder being filled: `figures`, `figures/dark` and `tables` beside the page, which needs none of them.

    Attributes:
        most_map_bytes: what the picture of a map may take of the page.
    """

    most_map_bytes = 200_000

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._count = 0
        self._has_coast = False
        for name in ("figures", "figures/dark", "tables"):
            (folder / name).mkdir()

    def figure(
        self,
        figure: Figure,
        name: str,
        description: str,
        head: Sequence[str],
        rows: Iterable[Sequence],
        *,
        picture: bytes | None = None,
        units: str = "",
    ) -> str:
        """Saves a figure as PNG for light and for dark and its numbers as CSV.

        Args:
            figure: what is drawn.
            picture: of a map, the image for the page, smaller than the figure's own.
            name: of the files.
            description: for readers that do not see the figure.
            head: names of the table's columns.
            rows: of the table.
            units: of the numbers, for a column of the table; empty where columns have several.

        Returns:
            The SVG for the page.
        """
        self._count += 1
        svg = to_svg(
            figure, prefix=f"f{self._count}", description=page.escape(description), coast_is_defined=self._has_coast,
            picture=picture,
        )  # fmt: skip
        self._has_coast |= 'id="coastline"' in svg
        self.file(f"figures/{name}.png", to_png(figure))
        self.file(f"figures/dark/{name}.png", to_png(figure, dark=True))
        self.rows(name, [*head, "units"], ([*row, units] for row in rows)) if units else self.rows(name, head, rows)
        return svg

    def file(self, name: str, content: bytes) -> None:
        """Saves a file."""
        (self.folder / name).write_bytes(content)

    def rows(self, name: str, head: Sequence[str], rows: Iterable[Sequence]) -> None:
        """Saves a table as CSV; numbers with seven significant digits."""
        with open(self.folder / "tables" / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows([f"{cell:.7g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
