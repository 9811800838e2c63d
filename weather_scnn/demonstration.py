"""The stages of the demonstration: which command runs with what, and which are done already."""

import dataclasses
import pathlib
from typing import Any

import pandas as pd
import zarr

import configs

START = pd.Timestamp("2000-01-01")
# The test days are the first of the second year, so that the climatology of the first year covers them.
TRAINING_DAYS, GAP_DAYS, TEST_DAYS, LEAD_DAYS = 365, 10, 15, 5
MEMBERS = 4


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, its arguments, and whether an earlier run has finished it."""

    command: str
    arguments: dict[str, Any]
    done: bool = False


def _days(first: pd.Timestamp, last: pd.Timestamp) -> str:
    return f"{first:%Y-%m-%d}:{last:%Y-%m-%d}"


def stages(workdir: pathlib.Path) -> list[Command]:
    """The chain from a nature run to a report, in order; each stage's output lies in the workdir."""
    nature, truth, month, forecasts, perturbed, trained = (
        str(workdir / f"{name}.zarr")
        for name in ("nature", "truth", "climatology", "forecast", "ensemble", "trained-ensemble")
    )
    statistics, scores, run, ensemble = (
        str(workdir / name) for name in ("statistics.nc", "scores.nc", "run", "ensemble")
    )
    day = pd.Timedelta(days=1)
    end = START + TRAINING_DAYS * day
    test = end + GAP_DAYS * day
    last = test + (TEST_DAYS + LEAD_DAYS) * day
    training = _days(START, end - day)
    start = {"input": truth, "init": f"{_days(test, test + (TEST_DAYS - 1) * day)}:24h", "lead": f"{LEAD_DAYS}d"}
    settings = {"data.path": nature, "data.statistics": statistics, "data.train": training}
    validation = {"data.validation": _days(end, test - day)}

    def stage(command: str, output: str, **arguments: Any) -> Command:
        return Command(command, {"output": output, **arguments}, done=is_whole(output))

    def run_of(name: str, folder: str, settings: dict[str, str]) -> Command:
        config = pathlib.Path(configs.__file__).parent / f"{name}.py"
        assignments = [f"{setting}={value}" for setting, value in settings.items()]
        return Command("train", {"config": config, "workdir": folder, "set_": assignments})

    return [
        stage("simulate", nature, days=(last - START).days, grid="64x32", start=f"{START:%Y-%m-%d}"),
        stage("regrid", truth, input=nature, grid="64x32", time=_days(test, last)),
        stage("stats", statistics, input=nature, time=training),
        stage("climatology", month, input=nature, time=training),
        run_of("demo", run, settings | validation),
        # The forecaster of that run with noise in its network, scored as an ensemble.
        run_of("demo_ensemble", ensemble, settings | {"training.start_from": run}),
        stage("forecast", forecasts, workdir=run, **start),
        stage("forecast", perturbed, workdir=run, members=MEMBERS, **start),
        stage("forecast", trained, workdir=ensemble, members=MEMBERS, **start),
        stage(
            "score", scores, truth=truth, climatology=month,
            forecast=[forecasts, f"ensemble={perturbed}", f"trained-ensemble={trained}"],
            baselines="persistence,climatology", regions="global,tropics,northern-hemisphere,southern-hemisphere",
            maps="24h,120h", spectra="24h,120h",
        ),
        Command(
            "report",
            {
                "scores": scores, "output": str(workdir / "report"), "forecast": forecasts, "truth": truth,
                "ensemble": trained, "overwrite": True,
            },
        ),
    ]  # fmt: skip


def is_whole(path: str) -> bool:
    """Whether an earlier run has finished this output; a netCDF file appears only when whole."""
    if not path.endswith(".zarr"):
        return pathlib.Path(path).exists()
    try:
        return zarr.open_group(path, mode="r").attrs.get("status") == "complete"
    except FileNotFoundError:
        return False
