"""Ensembles trained by proper scores beside perturbed initial states, on the nature run of `skill.py`.

    python benchmarks/ensembles.py --workdir /tmp/skill --json ensembles.json

The spherical CNN of `skill.py` is trained first, with the terrain and the clock that `stability.py` gives it, since a season that
nothing tells would be one more uncertainty. From its weights go on, for as many forecasts of a state: itself, by the
squared error; and ensembles, by the almost fair CRPS. The first is then perturbed (`increments`, `bred`, amplitudes fitted to the
ten days between training and test). All are scored on the test year. `--ablation` trains ensembles that lack one thing each,
for fewer steps, beside a whole one of as many. A run that is stopped goes on where it was with the same command.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import sys
import time
from typing import Any

# The folder's own pipelines.py must not hide the package of that name.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import numpy as np
import xarray as xr

from benchmarks import skill, stability
from eval.scoring import score
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.sphere import Grid
from weather_scnn.sphere.field_spectra import degree_power
from weather_scnn.training.configuration import Config, LossConfig, Stage
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.loop import train

HERE = pathlib.Path(__file__).parent
LEADS = (1, 3, 5)
NOISE = ["model.noise.vector=16", "model.noise.fields=1"]
# Two members scored with α = 0.95 want 5 % too little spread: r² / (1 + r²) = (1 − ε)² / 2 with ε = (1 − α) / 2.
SCORED = ["loss.kind=crps", "training.members=2", "loss.alpha=1", "loss.whitening=0.5"]
#: Ensembles that lack one thing each, for the ablation.
VARIANTS: dict[str, list[str]] = {
    "both noises": [],
    "vector alone": ["model.noise.fields=0"],
    "fields alone": ["model.noise.vector=0"],
    "no spectral term": ["loss.spectral_weight=0"],
    "winds by components": ["loss.winds=components"],
    "4 members": ["training.members=4"],
    "8 members": ["training.members=8"],
}
ENSEMBLE, DETERMINISTIC = "trained ensemble", "deterministic"


def fine_tuned(base: Config, origin: pathlib.Path, stages: str, gap: str, settings: list[str]) -> Config:
    """An experiment that goes on from the deterministic run."""
    shared = [
        f"training.start_from={origin}", f"training.stages={stages}", "optimiser.learning_rate=1e-3",
        f"data.validation={gap}", "training.validate_every=1000000", "training.checkpoint_every=50",
        "training.validation_windows=4", "loss.pressure_weights=false", "model.direct=true",
        "model.correctors.means=surface_pressure", "model.correctors.means_of=climate",
    ]  # fmt: skip
    return with_overrides(base, [*shared, *settings])


def trained(config: Config, folder: pathlib.Path, statistics: str = "") -> dict[str, Any]:
    """Trains; gives parameters, steps and seconds, of which those of compiling are a part."""
    clock = folder / "seconds.json"
    if not clock.exists():
        begin = time.perf_counter()
        train(config, folder, statistics=statistics)
        clock.write_text(json.dumps({"seconds": time.perf_counter() - begin}))
    stages = config.training.stages
    units = sum(stage.steps * stage.rollout_steps * config.training.members_of(stage) for stage in stages)
    return {"forecast steps": units * config.training.batch_size} | json.loads(clock.read_text())


def verified(
    folder: pathlib.Path, name: str, store: str, climatology: str, init: str, **options: Any
) -> tuple[xr.Dataset, xr.Dataset | None, str]:
    """Forecasts and scores; gives these, shares of ranks, and the store of forecasts."""
    made, scores = str(folder / f"{name}.zarr"), str(folder / f"{name}.nc")
    if not pathlib.Path(scores).exists():
        forecast(str(folder), store, made, init=init, lead=f"{max(LEADS)}d", batch_size=32, overwrite=True, **options)
        score(made, store, scores, climatology=climatology, bootstrap=0, progress=False)
    found = xr.open_dataset(scores, decode_timedelta=True).load()
    ranks = None
    if options:
        ranks = xr.open_dataset(scores, group="rank_histogram", decode_timedelta=True).load()
    return found, ranks, made


def of_all_fields(scores: xr.Dataset, metric: str, days: float) -> dict[str, float]:
    """A score of the system at a lead, by field and level; winds count as u and v."""
    lead = np.timedelta64(round(days * 24), "h").astype("timedelta64[ns]")
    found = {}
    for name, array in scores.data_vars.items():
        if "metric" not in array.dims or metric not in array["metric"]:
            continue
        each = array.sel(system="model", metric=metric, region="global", lead_time=lead)
        for level in each["level"].values if "level" in each.dims else [None]:
            value = float(each if level is None else each.sel(level=level))
            if np.isfinite(value):
                found[str(name) if level is None else f"{name} {level} hPa"] = value
    return found


def rank_departure(ranks: xr.Dataset, days: float, field: str) -> float:
    """Largest departure of the shares of ranks from flat, relative to it; of one field."""
    name, _, level = field.partition(" ")
    lead = np.timedelta64(round(days * 24), "h").astype("timedelta64[ns]")
    share = ranks[name].sel(system="model", lead_time=lead)
    if level:
        share = share.sel(level=int(level.split()[0]))
    values = share.values[np.isfinite(share.values)]
    return float(np.abs(values * values.size - 1.0).max())


def power_departure(made: str, truth: str, days: float, field: str) -> float:
    """Largest departure of the members' power from the truth's, relative to it, at degrees 1 … 0.8 of the largest."""
    name, _, level = field.partition(" ")
    lead = np.timedelta64(round(days * 24), "h").astype("timedelta64[ns]")
    members = xr.open_zarr(made, decode_timedelta=True)[name].sel(prediction_timedelta=lead)
    actual = xr.open_zarr(truth, decode_timedelta=True)[name].sel(time=members["time"].values + lead)
    if level:
        members, actual = (each.sel(level=int(level.split()[0])) for each in (members, actual))
    grid, powers = Grid.from_name("64x32"), []
    for array in (members, actual):
        values = array.transpose(..., "latitude", "longitude").values.astype(np.float64).reshape(-1, *grid.shape)
        powers.append(degree_power(values, grid).mean(axis=0))
    inside = slice(1, int(0.8 * 21) + 1)  # the nature run ends at degree 21
    return float(np.abs(powers[0][inside] / powers[1][inside] - 1.0).max())


def lines_of(
    systems: dict[str, tuple[xr.Dataset, xr.Dataset | None, str]], single: xr.Dataset, truth: str
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Rows of the trained ensemble beside the perturbed ones, and of each system what the worst field says."""
    worst: dict[str, dict[str, float]] = {}
    rows: list[dict[str, Any]] = []
    ours = systems[ENSEMBLE][0]
    for name, (scores, ranks, made) in systems.items():
        said = worst.setdefault(name, {})
        for days in LEADS:
            mine, theirs = (of_all_fields(each, "crps_fair", days) for each in (ours, scores))
            ratios = [theirs[field] / mine[field] for field in mine]
            said[f"fair CRPS over ours, {days} d: mean"], said[f"fair CRPS over ours, {days} d: least"] = (
                float(np.mean(ratios)),
                float(np.min(ratios)),
            )
            spread = list(of_all_fields(scores, "spread_skill_ratio", days).values())
            said[f"spread/skill, {days} d: lowest"], said[f"spread/skill, {days} d: highest"] = min(spread), max(spread)
            rows += [
                {
                    "case": f"fair CRPS of {field} at {days} d", "ours": mine[field], "peer": theirs[field],
                    "peer_name": name, "ratio": theirs[field] / mine[field], "unit": "",
                }
                for field in mine
                if name != ENSEMBLE
            ]  # fmt: skip
        means, alone = (of_all_fields(scores, "rmse", 5), of_all_fields(single, "rmse", 5))
        gains = [1.0 - means[field] / alone[field] for field in means]
        said["RMSE of the mean below the single forecast's, 5 d: least"] = float(np.min(gains))
        said["RMSE of the mean below the single forecast's, 5 d: mean"] = float(np.mean(gains))
        if ranks is not None:
            ranked = [field for field in means if field.split()[0] in ranks]
            said["ranks from flat, 5 d: most"] = max(rank_departure(ranks, 5, field) for field in ranked)
            said["ranks from flat, 1 d: most"] = max(rank_departure(ranks, 1, field) for field in ranked)
        said["power of members from the truth's, 5 d: most"] = max(
            power_departure(made, truth, 5, field) for field in means if "wind" not in field
        )
    return rows, worst


def markdown(worst: dict[str, dict[str, float]], training: dict[str, dict[str, Any]], about: list[str]) -> str:
    """The committed page."""
    lines = ["# Ensembles on a nature run", "", *about, ""]
    lines += ["| run | forecast steps in training | min, compiling included |", "|---|---|---|"]
    lines += [
        f"| {name} | {facts['forecast steps']:,} | {facts['seconds'] / 60:.1f} |" for name, facts in training.items()
    ]
    names = list(worst)
    lines += ["", "| of all fields and levels | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for line in worst[names[0]]:
        lines.append(f"| {line} | " + " | ".join(f"{worst[name].get(line, np.nan):.3f}" for name in names) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, default=HERE / "skill_runs", help="of skill.py, or a new one")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    parser.add_argument("--first", default="3000x1,300x4@5e-4", help="stages of the run that all go on from")
    parser.add_argument(
        "--stages",
        default="1200x1@1e-3,300x4@1e-3,100x8@5e-4,80x20@3e-4,40x20@1e-4",
        help="of the ensemble, as in training.stages",
    )
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--every", default="10d", help="between initial times of the test year")
    parser.add_argument("--ablation", help="stages of ensembles that lack one thing each; none without")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few steps on a few days: shows that it runs")
    arguments = parser.parse_args()
    quick = arguments.quick
    days = (10, 8, 10) if quick else (skill.TRAIN_DAYS, skill.GAP_DAYS, skill.TEST_DAYS)
    stages = "2x1" if quick else arguments.stages
    members = 3 if quick else arguments.members
    folder = arguments.workdir / "quick" if quick else arguments.workdir
    folder.mkdir(parents=True, exist_ok=True)
    nature = skill.NATURES["held-suarez"]
    store, statistics, climatology = skill.prepare(folder, nature, days, arguments.seed)
    first = "4x1" if quick else arguments.first
    network = skill.systems(nature)[skill.OURS]
    known = stability.seasonal(nature)
    base = skill.experiment(known, network, store, days[0], tuple(map(Stage.parse, first.split(","))), arguments.seed)
    base = with_overrides(base, stability.base(nature))
    origin = folder / "base"
    training: dict[str, dict[str, Any]] = {"base": trained(base, origin, statistics)}
    end = skill.FIRST + np.timedelta64(days[0], "D")
    gap = f"{end}:{end + np.timedelta64(days[1] - 1, 'D')}"
    test = end + np.timedelta64(days[1], "D")
    init = f"{test}:{test + np.timedelta64(days[2] - 1, 'D')}:{'5d' if quick else arguments.every}"

    def run(name: str, stages: str, settings: list[str]) -> pathlib.Path:
        place = folder / name.replace(" ", "_")
        training[name] = trained(fine_tuned(base, origin, stages, gap, settings), place)
        return place

    ensemble = run(ENSEMBLE, stages, [*NOISE, *SCORED])
    # As many forecast steps as the ensemble's members take together.
    parsed = with_overrides(base, [f"training.stages={stages}"]).training.stages
    twice = ",".join(
        str(dataclasses.replace(stage, steps=2 * stage.steps, members=None, alpha=None)) for stage in parsed
    )
    deterministic = run(DETERMINISTIC, twice, [])
    assert LossConfig().kind == "grid"
    single = verified(deterministic, "single", store, climatology, init)[0]
    systems = {ENSEMBLE: verified(ensemble, "ensemble", store, climatology, init, members=members)}
    for kind in ("increments",) if quick else ("increments", "bred"):
        systems[kind] = verified(
            deterministic, kind, store, climatology, init, members=members, perturbation=kind
        )  # fmt: skip
    if arguments.ablation or quick:
        chosen = ["vector alone"] if quick else list(VARIANTS)
        for name in chosen:
            place = run(name, "2x1" if quick else arguments.ablation, [*NOISE, *SCORED, *VARIANTS[name]])
            systems[name] = verified(place, "ensemble", store, climatology, init, members=members)
    rows, worst = lines_of(systems, single, store)
    about = [
        f"Command: `python benchmarks/ensembles.py --first {first} --stages {stages} --members {members} --every {arguments.every}"
        + (f" --ablation {arguments.ablation}" if arguments.ablation else "")
        + f" --seed {arguments.seed}`.",
        f"Nature run of [skill.md](skill.md), first training {first} (steps x rollout steps); {members} members, forecasts from {init}.",
        f"{platform.machine()}, {os.cpu_count()} CPUs, JAX {jax.__version__} on {jax.default_backend()}, "
        f"Python {platform.python_version()}.",
    ]
    page = markdown(worst, training, about)
    print(page)
    if not quick:
        (HERE / "ensembles.md").write_text(page)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
