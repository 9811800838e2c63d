"""The result of `check`: rows of variables and a list of problems, as JSON and as text."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import rich.console
import rich.table

# What reading brings right by itself, and what remains for the user to know or do.
REMEDIES = {
    "axis_order": "none needed: transposed on reading",
    "descending_latitude": "none needed: flipped on reading",
    "unsorted_latitude": "none needed: sorted on reading",
    "repeated_longitude": "none needed: one column is kept on reading",
    "wrapped_longitude": "none needed: wrapped on reading",
    "unsorted_longitude": "none needed: sorted on reading",
    "levels_in_pa": "none needed: converted on reading",
    "levels_in_names": "none needed: stacked along level on reading",
    "level_in_path": "check that the name of the file or folder tells the level",
    "repeated_levels": "check that the repeated levels are equal; the first is read",
    "unsorted_times": "none needed: sorted on reading",
    "repeated_times": "check that the repeated times are equal; the first is read",
    "unfilled_times": "none needed: left out on reading",
    "ensemble_member": "choose another with --member if this one is not meant",
    "expver": "fetch the period again once ERA5 is final, if the difference matters",
    "preliminary": "fetch the period again once ERA5 is final, if the difference matters",
    "converted_units": "none needed: converted on reading",
    "no_units": "set the units attribute",
    "own_levels": "none needed: put on one level axis, where what is absent counts as missing",
    "own_steps": "none needed: jobs take the times that fields share, totals are made from all of their own",
    "empty_file": "fetch or write it again",
    "rounded_times": "none needed: rounded on reading",
    "running_totals": "none needed: made totals of one interval on reading",
    "valid_range": "none needed: masked on reading, as the NetCDF Users' Guide says",
    "half_precision": "store it as float32: float16 ends at 65504 and keeps three digits",
    "skipped": "select one entry of that dimension and write the file again, if the field is needed",
    "other_level_type": "interpolate it to pressure levels first, if it is needed",
    "left_out_steps": "give a glob that matches one lead time",
    "mixed_lead_times": "give a glob that matches one lead time, unless these are accumulations",
    "mixed_windows": "take differences of consecutive steps first, so that every total spans the same time",
    "window": "check the label against the publisher's documentation: some are wrong",
    "unshared_times": "fetch the missing times, or give fields one at a time with --variables",
    "kinds_of_level": "none needed: joined on reading",
    "other_vertical_axis": "give pressure levels, if the field is needed",
    "no_level": "name the level: call the field t500, or give it a scalar coordinate level",
    "level_in_attributes": "none needed: made an axis on reading",
    "second_field": "rename or delete one of the two",
    "repeated_static": "none needed: the first file's map is read",
}


@dataclasses.dataclass
class CheckReport:
    """The result of `check_store`.

    Attributes:
        source: what was checked.
        variables: a dict a field: name, dims, shape, chunks, units, levels, period, step, gaps, nan_count, nan_period,
            infinite_count, min, mean (area-weighted), max.
        problems: dicts of kind, variable, where, remedy, and fatal: whether it makes the store unusable.
    """

    source: str
    variables: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    problems: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether no problem is fatal."""
        return not any(problem["fatal"] for problem in self.problems)

    def add(self, kind: str, *, variable: str = "", where: str = "", remedy: str, fatal: bool = False) -> None:
        """Adds a problem."""
        self.problems.append(
            {"kind": kind, "variable": variable, "where": where, "remedy": remedy, "fatal": fatal},
        )

    def to_json(self) -> str:
        """One object with `variables` and `problems`; numbers that are not finite are null."""
        return json.dumps({"variables": self.variables, "problems": self.problems}, indent=1, allow_nan=False)

    def _shared(self) -> Iterator[str]:
        """The source, then each order of axes, chunking and period with the variables that have it."""
        yield self.source
        describe: dict[str, Callable[[dict[str, Any]], str]] = {
            "layout": lambda each: ", ".join(f"{dim} {size}" for dim, size in zip(each["dims"], each["shape"])),
            "chunks": lambda each: "×".join(map(str, each["chunks"])) or "none",
            "period": _period_text,
        }
        for title, describe_one in describe.items():
            groups: dict[str, list[str]] = {}
            for each in self.variables:
                groups.setdefault(describe_one(each), []).append(each["name"])
            for text, names in groups.items():
                listed = f"{', '.join(names[:3])}{' …' * (len(names) > 3)}"
                yield f"{title}: {text}" + (f"  ({len(names)} variables: {listed})" if len(groups) > 1 else "")

    def render(self, console: rich.console.Console) -> None:
        """What all variables share, a table of the variables, then the problems, each with its remedy."""
        for line in self._shared():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        table = rich.table.Table()
        table.add_column("variable", overflow="fold")
        for heading in ("units", "levels", "NaN", "min", "mean", "max"):
            table.add_column(heading, justify="left" if heading == "units" else "right", no_wrap=True)
        for each in self.variables:
            sizes = dict(zip(each["dims"], each["shape"]))
            numbers = ["–" if each[key] is None else f"{each[key]:.4g}" for key in ("min", "mean", "max")]
            levels = str(sizes.get("level", ""))
            table.add_row(each["name"], each["units"], levels, str(each["nan_count"] or ""), *numbers)
        if self.variables:
            console.print(table)
        if not self.problems:
            console.print("no problems found")
        for problem in sorted(self.problems, key=lambda each: not each["fatal"]):
            place = " ".join(part for part in (problem["variable"], problem["where"]) if part)
            mark = "unusable" if problem["fatal"] else "note"
            console.print(f"{mark}: {problem['kind']}: {place}; {problem['remedy']}", markup=False, highlight=False)


def _period_text(row: dict[str, Any]) -> str:
    if not row["period"]:
        return "static"
    return f"{' … '.join(row['period'])}, step {row['step'] or 'none'}, {row['gaps']} gaps"
