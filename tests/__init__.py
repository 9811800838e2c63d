"""Facts the code must keep."""

import beartype
import numpy as np
import typer

#: The type checker of the test run: annotations, shapes among them, are held against what is passed. NumPy's numbers are
#: numbers and an int is good where a float is wanted. What typer passes for its context is of another class of its own.
checked = beartype.beartype(
    conf=beartype.BeartypeConf(
        hint_overrides=beartype.FrozenDict(
            {float: float | int | np.floating | np.integer, int: int | np.integer, typer.Context: object}
        )
    )
)
