"""The card of a forecaster: what it takes and gives, what it was trained on, how good it is, and what it is not for."""

from typing import Any

import jax
import numpy as np
import xarray as xr

from weather_scnn.catalogue.field_names import field_in_words
from weather_scnn.catalogue.level_numbers import level_number
from weather_scnn.forecasting.trained_run import TrainedRun

_LEADS_HOURS = (6, 24, 72, 120, 240)


def model_card(run: TrainedRun, contents: dict[str, Any], scores: xr.Dataset | None) -> str:
    """Markdown.

    Args:
        run: the forecaster.
        contents: of its description.
        scores: as `score` gives them; None says that there are none.
    """
    data, model, training = run.config.data, run.config.model, run.config.training
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(run.parts.parameters))
    kind = "spin-weighted spherical CNN" if model.kind == "spherical" else "planar CNN"
    inputs = [*data.static_variables, *data.coordinates]
    if data.solar:
        inputs.append("incident solar radiation")
    if data.clock:
        inputs.append("phases of the year and of the day")
    stages = ", ".join(
        f"{stage.steps} steps of rollouts of {stage.rollout_steps}"
        + (f" at a rate of {stage.learning_rate:g}" if stage.learning_rate else "")
        for stage in training.stages
    )
    begun = f", begun with the weights of {last_name(training.start_from)}" if training.start_from else ""
    weights = contents["weights"]
    lines = [
        f"# {contents['name']}",
        "",
        contents["about"] or "A forecaster of the weather.",
        "",
        f"- **What it is**: {kind}, {count:,} parameters, {weights['bytes'] / 1e6:.1f} MB; one step is {data.step}.",
        f"- **Forecasts**: {'; '.join(run.channels.describe())}, on the {data.grid} grid"
        f"{' with poles' if data.poles else ''}.",
        f"- **From**: the same at {data.input_steps} time{'s' if data.input_steps > 1 else ''}"
        + (f", {data.input_step or data.step} apart" if data.input_steps > 1 else "")
        + (f"; {', '.join(inputs)}, which come with it." if inputs else "."),
        f"- **Trained on**: {last_name(data.path)}, {data.train or 'all of it'}{begun}; {stages}, batches of "
        f"{training.batch_size}, seed {training.seed}.",
        f"- **Licence**: {contents['licence'] or 'not stated'}.",
        f"- **Written by** {contents['created_by']}; SHA-256 of {weights['file']}: `{weights['sha256']}`.",
        "",
        "```bash",
        "weather-scnn forecast --workdir MODEL --input STATES --output forecast.zarr --init 2021-04-08:2021-04-09 --lead 3d",
        "```",
        "",
        "## Scores",
        "",
        *(_table(scores) if scores is not None else ["None were given when it was exported."]),
        "",
        "## Not for",
        "",
        "Warnings, or decisions that touch safety: operational centres are better by far. Forecasts beyond the leads scored "
        "above, other climates, and fields other than those it was trained on.",
        "",
    ]
    return "\n".join(lines)


def last_name(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rpartition("/")[2]


def _table(scores: xr.Dataset) -> list[str]:
    """RMSE of all systems, a row for each field and level."""
    hours = (scores["lead_time"] / np.timedelta64(1, "h")).values
    places = [int(np.flatnonzero(hours == lead)[0]) for lead in _LEADS_HOURS if lead in hours]
    systems = [str(name) for name in scores["system"].values]
    told = " / ".join(f"{hours[place]:g}" for place in places)
    lines = [f"Global RMSE at {told} h:", "", "| field | " + " | ".join(systems) + " |"]
    lines.append("|---" * (len(systems) + 1) + "|")
    for name, array in scores.data_vars.items():
        if "metric" not in array.dims or "rmse" not in array["metric"].values:
            continue
        array = array.sel(metric="rmse", region="global")
        levels = array["level"].values if "level" in array.dims else [None]
        for level in levels:
            one = array if level is None else array.sel(level=level)
            if not np.isfinite(one).any():
                continue
            cells = (
                " / ".join(f"{float(one.sel(system=system).isel(lead_time=place)):.4g}" for place in places)
                for system in systems
            )
            field = field_in_words(str(name), None if level is None else level_number(level))
            lines.append(f"| {field}, {array.attrs.get('units', '')} | " + " | ".join(cells) + " |")
    given = {key: str(scores.attrs[key]) for key in ("truth", "init_times", "period") if key in scores.attrs}
    about = [f"{key}: {last_name(value) if key == 'truth' else value}" for key, value in given.items()]
    return [*lines, *(["", "; ".join(about) + "."] if about else [])]
