"""Skill on real days: Z500 and T850 of NOAA's GFS analyses at 5.625°, some weeks to train on, other days to test on.

    python benchmarks/real_weather.py --workdir /tmp/real --nature speedy.zarr

Spherical networks beside planar ones of equal parameters, a ridge regression on empirical orthogonal functions, and
persistence. The networks are trained on the analyses alone, and again after training on the Z500 and T850 of a moist
nature run (`weather-scnn simulate --model speedy`, made where the package jcm is installed); and on the last 10 and
20 days of the analyses only. The nature run has no degrees beyond 30, so there the spherical network has features on the data's
grid; with those weights it goes on on a finer one. A step of the planar network takes twice as long as one on the data's grid, so that on
the nature run it takes fewer of them, in no less time. What begins with the nature run has mean maps of both fields as static
inputs: its own, then those of the days of analyses that are trained on. `--choose` tests on the last week of March, left out of the training, in place of
April: whatever is chosen is chosen there. Every network is the mean of `--seeds` runs. What is trained is kept in the
workdir, and gone on from.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

# The folder's own pipelines.py must not hide the package of that name.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import numpy as np
import xarray as xr

import weather_scnn as ws
from configs import gfs_z500_t850
from pipelines.statistics import compute_statistics
from weather_scnn.models import ModelConfig, planar_like
from weather_scnn.nn import Width
from weather_scnn.regridding.weights import make_weights
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels
from weather_scnn.training.checkpoints import parameter_count
from weather_scnn.training.configuration import Config, Stage
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.loop import train
from weather_scnn.training.rollout import build, take_apart
from weather_scnn.training.states import expected_grid

HERE = pathlib.Path(__file__).parent
SHARED = HERE.parents[1] / "shared" / "data"
ANALYSES = SHARED / "gfs_z500_t850_2021" / "gfs_6h_5.625deg_20210214_20210412.nc"
RELIEF = SHARED / "static" / "etopo60.cdf"
GRID = Grid.from_name("64x32")
FIELDS = (("geopotential", 500), ("temperature", 850))
LEADS = (6, 24, 72)
FIRST, LAST, TEST = "2021-02-14", "2021-03-22", "2021-04-08:2021-04-12"
CHOOSING_LAST, CHOOSING_TEST = "2021-03-14", "2021-03-15:2021-03-22"
SPHERICAL, PLANAR, RIDGE = "spherical", "planar of equal parameters", "EOFs and ridge"
BEGUN = "begun on a nature run"
#: Of persistence's RMSE, at most, on days that nobody trained on.
WANTED = {"geopotential": (0.50, 0.45, 0.70), "temperature": (0.70, 0.66, 0.90)}
_COMPONENTS = 80
#: Of what goes on from the nature run; chosen on March.
FINE_TUNING = [
    "optimiser.learning_rate=1e-3",
    "optimiser.average_decay=0.98",
    "training.stages=640x1,60x2,40x4@3e-4,24x8@2e-4",
]
#: Mean maps over the training, which say where the waves stand.
MEANS = tuple(f"{name}_{level}_time_mean" for name, level in FIELDS)


def keep(states: xr.Dataset, period: str, store: pathlib.Path) -> None:
    """Writes states with their mean maps over a period; the store has its name only when it is whole."""
    for mean, (name, level) in zip(MEANS, FIELDS):
        field = states[name].sel(level=level, time=slice(*period.split(":")), drop=True)
        found = field.astype(np.float64).mean("time").astype(np.float32)
        states[mean] = found.assign_attrs(units=field.attrs["units"])
    part = store.with_suffix(".part")
    states.drop_encoding().chunk(time=64).to_zarr(part, mode="w")
    part.rename(store)


def prepare(analyses: pathlib.Path, relief: pathlib.Path, store: pathlib.Path, period: str) -> str:
    """Analyses on one level axis, with the height and the share of land of every cell and means over the training."""
    if store.exists():
        return str(store)
    states = ws.open_dataset(analyses)[[name for name, _ in FIELDS]].sel(level=[level for _, level in FIELDS])
    terrain = xr.open_dataset(relief, decode_times=False)["ROSE"]
    longitude = terrain["ETOPO60X"].values % 360
    order = np.argsort(longitude)
    weights = make_weights(terrain["ETOPO60Y"].values, longitude[order], GRID)
    height = terrain.values[:, order]

    def mean(values: np.ndarray) -> np.ndarray:
        return (weights.latitude @ values @ weights.longitude.T).astype(np.float32)

    one_map = ("latitude", "longitude")
    states["geopotential_at_surface"] = one_map, 9.80665 * mean(np.maximum(height, 0)), {"units": "m2 s-2"}
    states["land_sea_mask"] = one_map, mean((height > 0).astype(np.float64)), {"units": "1"}
    keep(states.load(), period, store)
    return str(store)


def nature(given: str, folder: pathlib.Path, days: int, period: str) -> tuple[str, str]:
    """What of the moist nature run is to begin with; or an empty path and the reason why there is none."""
    made, store = pathlib.Path(given or folder / "speedy.zarr"), folder / "nature.zarr"
    if store.exists():
        return str(store), ""
    try:
        if not given:
            from pipelines.nature_run import simulate

            simulate(str(made), days=days, grid=GRID, model="speedy")
    except ws.UserError as error:
        return "", str(error)
    names = [*(name for name, _ in FIELDS), "geopotential_at_surface", "land_sea_mask"]
    states = ws.open_dataset(made)[names].sel(level=[level for _, level in FIELDS], time=slice(*period.split(":")))
    keep(states, period, store)
    return str(store), ""


def networks(config: Config) -> dict[str, ModelConfig]:
    """The spherical network of the experiment, and the planar one that has as many parameters."""
    channels = Channels.from_config(config.data)
    parts = take_apart(build(config.model, config.data, channels, expected_grid(config.data), 0))
    shape: dict[str, Any] = {
        "state": Width(len(channels.scalars), len(channels.winds)),
        "inputs": config.data.input_steps,
        "extras": channels.extra_count,
    }
    planar = planar_like(ModelConfig(blocks=config.model.blocks), parameter_count(parts.parameters), **shape)
    return {SPHERICAL: config.model, PLANAR: planar}


def coarse(model: ModelConfig) -> ModelConfig:
    """With features on the data's grid, and the same weights."""
    if not model.feature_grid:
        return model
    return dataclasses.replace(model, feature_grid="", max_degree=model.filter_degree, filter_degree=0)


def fitted(
    folder: pathlib.Path,
    config: Config,
    model: ModelConfig,
    *,
    store: str,
    period: str,
    stages: tuple[Stage, ...],
    seed: int,
    start_from: str = "",
) -> str:
    """The workdir of a run, trained unless it is."""
    data = dataclasses.replace(config.data, path=store, train=period)
    training = dataclasses.replace(config.training, stages=stages, seed=seed, start_from=start_from)
    whole = dataclasses.replace(config, data=data, model=model, training=training)
    statistics = ""
    if not start_from:
        name = f"statistics_{pathlib.Path(store).stem}_{period.replace(':', '_')}.nc"
        statistics = str(folder.parent / name)
        if not pathlib.Path(statistics).exists():
            names = [*(name for name, _ in FIELDS), *data.static_variables]
            compute_statistics(store, statistics, time=period, step=data.step, variables=names)
    train(whole, folder, statistics=statistics)
    return str(folder)


def mean_forecast(runs: Sequence[str], store: str, init: str) -> xr.Dataset:
    """Mean of the forecasts of several runs."""
    found = [ws.load_forecaster(run).forecast(store, init=init, lead=f"{LEADS[-1]}h") for run in runs]
    return sum(found[1:], found[0]) / len(found) if len(found) > 1 else found[0]


def ridge_forecast(store: str, period: str, init: np.ndarray) -> xr.Dataset:
    """A regression of the change to each lead on the leading EOFs of both fields, one for each lead.

    Anomalies from the mean of the training are divided by each field's standard deviation and weighted by area. The
    penalty is chosen on the last fifth of the training's times; what the EOFs do not hold persists.
    """
    whole = ws.open_dataset(store)
    dataset = whole.sel(time=slice(*period.split(":")))
    root = np.sqrt(GRID.area_weights / GRID.area_weights.mean())[:, None]
    means, scales = [], []

    def matrix(source: xr.Dataset) -> np.ndarray:
        parts = [source[name].sel(level=level).values.astype(np.float64) for name, level in FIELDS]
        if not means:
            means.extend(part.mean(axis=0) for part in parts)
            scales.extend(float((part - mean).std()) for part, mean in zip(parts, means))
        return np.concatenate(
            [((part - mean) / scale * root).reshape(len(part), -1) for part, mean, scale in zip(parts, means, scales)],
            1,
        )

    training = matrix(dataset)
    times = dataset["time"].values
    _, _, patterns = np.linalg.svd(training, full_matrices=False)
    patterns = patterns[: min(_COMPONENTS, len(training) // 2)]
    amplitude = training @ patterns.T
    states = matrix(whole.sel(time=init))
    position = {time: number for number, time in enumerate(times)}
    found = []
    for lead in range(6, LEADS[-1] + 1, 6):
        pairs = [(i, position[t + np.timedelta64(lead, "h")]) for i, t in enumerate(times)
                 if t + np.timedelta64(lead, "h") in position]  # fmt: skip
        start, end = np.array(pairs).T
        change, cut = amplitude[end] - amplitude[start], max(int(0.8 * len(start)), 1)

        def solved(penalty: float, upto: int, start=start, change=change) -> np.ndarray:
            x = amplitude[start[:upto]]
            return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ change[:upto])

        tried = {
            penalty: float(((amplitude[start[cut:]] @ solved(penalty, cut) - change[cut:]) ** 2).sum())
            for penalty in 10.0 ** np.arange(0, 8, 0.5)
        }
        found.append(states + states @ patterns.T @ solved(min(tried, key=tried.__getitem__), len(start)) @ patterns)
    fields = np.stack(found, axis=1).reshape(len(init), -1, len(FIELDS), *GRID.shape)
    levels = [level for _, level in FIELDS]
    result = {}
    for number, (name, level) in enumerate(FIELDS):
        values = fields[:, :, number] / root * scales[number] + means[number]
        stacked = np.full((len(init), values.shape[1], len(levels), *GRID.shape), np.nan, np.float32)
        stacked[:, :, levels.index(level)] = values
        dims = ("time", "prediction_timedelta", "level", "latitude", "longitude")
        result[name] = dims, stacked, dict(whole[name].attrs)
    leads = np.arange(6, LEADS[-1] + 1, 6).astype("timedelta64[h]").astype("timedelta64[ns]")
    coordinates = {name: whole[name].values for name in ("latitude", "longitude")}
    return xr.Dataset(result, {"time": init, "prediction_timedelta": leads, "level": levels, **coordinates})


def errors(forecasts: dict[str, xr.Dataset], store: str) -> dict[str, dict[str, list[float]]]:
    """RMSE over persistence's by system and field, one for each of `LEADS`; persistence's own in the fields' units."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, level in FIELDS:
        scores = ws.score(
            {key: each[[name]].sel(level=[level]) for key, each in forecasts.items()},
            ws.open_dataset(store)[[name]].sel(level=[level]),
            baselines=("persistence",),
            bootstrap=0,
        )
        array = scores[name].sel(metric="rmse", region="global", level=level)
        leads = [np.timedelta64(lead, "h").astype("timedelta64[ns]") for lead in LEADS]
        base = array.sel(system="persistence", lead_time=leads).values
        found.setdefault("persistence", {})[name] = base.tolist()
        for key in forecasts:
            found.setdefault(key, {})[name] = (array.sel(system=key, lead_time=leads).values / base).tolist()
    return found


def table(found: dict[str, dict[str, list[float]]], about: list[str]) -> str:
    """The committed page."""
    leads = " / ".join(map(str, LEADS))
    lines = ["# Skill on real days", "", *about, "", f"RMSE over that of persistence at {leads} h:", ""]
    lines += ["| system | Z500 | T850 |", "|---|---|---|"]
    for key, values in found.items():
        digits = ".4g" if key == "persistence" else ".3f"
        cells = [" / ".join(f"{value:{digits}}" for value in values[name]) for name, _ in FIELDS]
        label = "persistence itself, m² s⁻² and K" if key == "persistence" else key
        lines.append(f"| {label} | {cells[0]} | {cells[1]} |")
    wanted = [" / ".join(f"{value:.2f}" for value in WANTED[name]) for name, _ in FIELDS]
    lines.append(f"| wanted, at most | {wanted[0]} | {wanted[1]} |")
    return "\n".join(lines) + "\n"


def draw(found: dict[str, dict[str, list[float]]], days: Sequence[int], whole: int, path: pathlib.Path) -> None:
    """Skill against the number of training days, the whole period the last."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axis, (name, level) in zip(figure.subplots(1, 2), FIELDS):
        for kind, colour in ((SPHERICAL, "tab:blue"), (PLANAR, "tab:orange")):
            for place, style in ((1, "-"), (2, "--")):
                values = [found[f"{kind}, {count} days"][name][place] for count in days] + [found[kind][name][place]]
                label = f"{kind}, {LEADS[place]} h"
                axis.plot([*days, whole], values, style, marker="o", color=colour, label=label)
        axis.set(title=f"{name} at {level} hPa", xlabel="days to train on", ylabel="RMSE over persistence's")
        axis.axhline(1.0, color="grey", linewidth=0.8)
    figure.axes[0].legend(fontsize=7, handlelength=3.5)
    figure.savefig(path, dpi=110)


class Recipes(NamedTuple):
    """Experiments: on analyses alone, on the nature run, and of what goes on from there on analyses."""

    alone: Config
    nature: Config
    tuned: Config

    @classmethod
    def of(cls, quick: bool) -> "Recipes":
        """Those of the benchmark, or of a few steps."""
        alone = gfs_z500_t850.get_config()
        if quick:
            alone = dataclasses.replace(alone, training=dataclasses.replace(alone.training, stages=(Stage(2, 1),)))
        # Over so few days means say what comes; over years, where the waves stand.
        statics = (*alone.data.static_variables, *MEANS)
        nature = dataclasses.replace(alone, data=dataclasses.replace(alone.data, static_variables=statics))
        return cls(alone, nature, nature if quick else with_overrides(nature, FINE_TUNING))


class Trial(NamedTuple):
    """What is trained where.

    Attributes:
        arguments: of the command.
        folder: of runs and stores on analyses.
        last: day of the training.
        days: how many last days of it some runs are trained on.
        earth: store of the nature run, or empty.
        recipes: experiments.
    """

    arguments: argparse.Namespace
    folder: pathlib.Path
    last: str
    days: list[int]
    earth: str
    recipes: Recipes

    @property
    def seeds(self) -> range:
        """Of the runs whose forecasts are averaged."""
        return range(1 if self.arguments.quick else self.arguments.seeds)

    def period(self, days: int = 0) -> str:
        """So many last days of the training; 0 stands for all."""
        return f"{np.datetime64(self.last) - np.timedelta64(days - 1, 'D') if days else FIRST}:{self.last}"

    def store(self, days: int = 0) -> str:
        """The analyses, with means over those days."""
        path = self.folder / f"{_numbered('analyses', days)}.zarr"
        return prepare(self.arguments.analyses, self.arguments.relief, path, self.period(days))

    def on_analyses(self, name: str, model: ModelConfig, days: int = 0, starts: Sequence[str] = ()) -> list[str]:
        """Workdirs of one run a seed, each begun on the nature run where `starts` are given."""
        recipe = self.recipes.tuned if starts else self.recipes.alone
        return [
            fitted(
                self.folder / f"{_numbered(name, days)}_{seed}", recipe, model, store=self.store(days),
                period=self.period(days), stages=recipe.training.stages, seed=seed, start_from=start,
            )
            for seed, start in zip(self.seeds, starts or [""] * len(self.seeds))
        ]  # fmt: skip

    def on_nature(self, name: str, model: ModelConfig, stages: str) -> list[str]:
        """Workdirs of one run a seed on the nature run."""
        parsed = (Stage(2, 1),) if self.arguments.quick else tuple(map(Stage.parse, stages.split(",")))
        return [
            fitted(
                self.arguments.workdir / f"{name}_nature_{seed}", self.recipes.nature, coarse(model), store=self.earth,
                period=self.arguments.nature_period, stages=parsed, seed=seed,
            )
            for seed in self.seeds
        ]  # fmt: skip

    def train(self) -> dict[str, list[str]]:
        """Workdirs by name in the table."""
        runs = {}
        arguments = self.arguments
        for kind, model in networks(self.recipes.nature).items():
            name = kind.split()[0]
            runs |= {
                f"{kind}, {days} days" if days else kind: self.on_analyses(name, model, days)
                for days in (0, *self.days)
            }
            if self.earth:
                stages = arguments.nature_stages if kind == SPHERICAL else arguments.planar_nature_stages
                starts = self.on_nature(name, model, stages)
                runs[f"{kind}, {BEGUN}"] = self.on_analyses(f"{name}_begun", model, starts=starts)
        return runs

    def test(self, runs: dict[str, list[str]], period: str) -> dict[str, xr.Dataset]:
        """Forecasts by name in the table, from all times of a period that have inputs and a truth six hours later."""
        store, inputs = self.store(), self.recipes.alone.data.input_steps
        times, six = ws.open_dataset(store).sel(time=slice(*period.split(":")))["time"].values, np.timedelta64(6, "h")
        inits = np.array([t for t in times if all(t - six * k in times for k in range(inputs)) and t + six in times])
        init = ":".join(np.datetime_as_string(inits[[0, -1]], "m")) + ":6h"
        forecasts = {name: mean_forecast(each, store, init) for name, each in runs.items()}
        return forecasts | {RIDGE: ridge_forecast(store, self.period(), forecasts[SPHERICAL]["time"].values)}


def _numbered(name: str, days: int) -> str:
    return f"{name}_{days}" if days else name


def parsed() -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, default=HERE / "real_weather_runs")
    parser.add_argument("--analyses", type=pathlib.Path, default=ANALYSES)
    parser.add_argument("--relief", type=pathlib.Path, default=RELIEF)
    parser.add_argument("--nature", default="", help="store of a moist nature run; made where it is not given")
    parser.add_argument("--nature-period", default="2000-01-01:2003-01-14")
    parser.add_argument("--nature-stages", default="3500x1,400x2,200x4", help="training on the nature run")
    parser.add_argument(
        "--planar-nature-stages", default="2500x1,400x2,150x4", help="that of planar networks: of about equal time"
    )
    parser.add_argument("--days", default="10,20", help="last days of the training period; empty for all of it alone")
    parser.add_argument("--seeds", type=int, default=1, help="runs whose forecasts are averaged")
    parser.add_argument(
        "--choose", action="store_true", help="test on the last week of March, left out of the training"
    )
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    parser.add_argument("--quick", action="store_true", help="a few steps: shows that it runs")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    absent = [str(path) for path in (arguments.analyses, arguments.relief) if not path.exists()]
    if absent:
        print(f"skipped: {' and '.join(absent)} not there; give --analyses and --relief")
        return
    folder = arguments.workdir / ("quick" if arguments.quick else "choose" if arguments.choose else "test")
    folder.mkdir(parents=True, exist_ok=True)
    days = [int(each) for each in arguments.days.split(",") if each]
    last, period = (CHOOSING_LAST, CHOOSING_TEST) if arguments.choose else (LAST, TEST)
    earth, reason = ("", "left out by --quick") if arguments.quick and not arguments.nature else nature(
        arguments.nature, arguments.workdir, 1111, arguments.nature_period
    )  # fmt: skip
    trial = Trial(arguments, folder, last, days, earth, Recipes.of(arguments.quick))
    forecasts = trial.test(trial.train(), period)
    found = errors(forecasts, trial.store())
    config = trial.recipes.alone
    first = take_apart(build(config.model, config.data, Channels.from_config(config.data), GRID, 0))
    about = [
        f"Command: `python benchmarks/real_weather.py{' --choose' if arguments.choose else ''} "
        f'--seeds {len(trial.seeds)} --days "{arguments.days}"`. '
        f"NOAA GFS analyses, trained on {trial.period()} ({int(parameter_count(first.parameters)):,} parameters each), "
        f"tested on {period}, {len(forecasts[RIDGE]['time'])} initial times. "
        f"JAX {jax.__version__} on {jax.default_backend()}.",
        *([f"Without networks begun on a nature run: {reason}."] if reason else []),
    ]
    page = table(found, about)
    print(page)
    if not arguments.quick and not arguments.choose:
        (HERE / "real_weather.md").write_text(page)
        if days:
            length = int((np.datetime64(last) - np.datetime64(FIRST)) / np.timedelta64(1, "D")) + 1
            draw(found, days, length, HERE.parent / "docs" / "images" / "real_weather_days.png")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows(found), indent=1))


def rows(found: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """{case, ours, peer, peer_name, ratio, unit}, ratio > 1 where the spherical network is better."""
    listed = []
    for key, values in found.items():
        if key in (SPHERICAL, "persistence") or key.startswith(SPHERICAL):
            continue
        mine = key.replace(PLANAR, SPHERICAL)
        ours = found[mine if mine in found else SPHERICAL]
        for name, level in FIELDS:
            for lead, one, other in zip(LEADS, ours[name], values[name]):
                case = f"RMSE of {name} {level} hPa at {lead} h over persistence's"
                listed.append(
                    {"case": case, "ours": one, "peer": other, "peer_name": key, "ratio": other / one, "unit": "1"}
                )
    return listed


if __name__ == "__main__":
    main()
