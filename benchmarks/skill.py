"""Skill of the spherical CNN beside a paper-faithful one, a planar CNN, persistence and climatology.

    python benchmarks/skill.py --workdir /tmp/skill --json skill.json
    python benchmarks/skill.py --nature speedy --workdir /tmp/speedy

One nature run, of the dry planet or of the moist Earth (which needs the package jcm, the extra `earth`), is shared by all: two years to train on, half a month left out, one year to test on. The networks see
the same batches in the same order, with one optimiser and schedule, for the same number of steps. Their sizes are
chosen so that a step takes the same time, but for a second planar CNN, which has as many parameters as the spherical
one and takes over four times as long; they train in one process and take turns of a few steps, so that other load on
the machine hits all alike. Forecasts and scores are made by the package's own commands. A run that is stopped goes
on where it was with the same command.

ACC of climatology is zero by definition. Lower RMSE and higher ACC are better.
"""

import argparse
import dataclasses
import importlib.util
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
import jax.numpy as jnp
import numpy as np
import xarray as xr

from configs import paper_flat
from eval.scoring import score
from pipelines.climatology import compute_climatology
from pipelines.nature_run import simulate
from pipelines.statistics import compute_statistics
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.statistics import read_statistics
from weather_scnn.models import ModelConfig
from weather_scnn.nn import Fields
from weather_scnn.progress import progress_bar
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.checkpoints import Checkpoints, Cursor, parameter_count
from weather_scnn.training.configuration import Config, OptimiserConfig, Stage, TrainingConfig
from weather_scnn.training.loader import WindowLoader
from weather_scnn.training.loss import make_scales
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.rollout import build, take_apart
from weather_scnn.training.states import StateReader, expected_grid
from weather_scnn.training.step import make_train_step

HERE = pathlib.Path(__file__).parent
Field = tuple[str, int | None]
FIRST, TRAIN_DAYS, GAP_DAYS, TEST_DAYS, LEAD_DAYS = np.datetime64("2000-01-01"), 730, 10, 365, 5
LEADS = (1, 3, 5)
OURS, PAPER, PLANAR, LARGE_PLANAR = "spherical CNN", "paper-faithful", "planar CNN", "planar CNN of equal parameters"
UNITS = {
    "geopotential": "m² s⁻²",
    "temperature": "K",
    "2m_temperature": "K",
    "specific_humidity": "kg kg⁻¹",
    "total_precipitation_6hr": "m",
}
WIND, RAIN = "m s⁻¹", "total_precipitation_6hr"


@dataclasses.dataclass(frozen=True)
class Nature:
    """What the networks learn, and what they are judged by.

    Attributes:
        model: of `simulate`.
        title: of the page.
        page: its file.
        levels: hPa, of the upper-air fields.
        upper, surface, statics: fields of the networks' state, and those without time.
        known: whether the sun and the clock are given.
        degree: largest degree that the grid's rows determine well, and that of the paper's features.
        features: where those of ours lie, and how far their degrees go.
        stages: of the training, unless others are asked for.
        scored: fields and levels of the table; `wind_vector` is scored from the two components.
    """

    model: str
    title: str
    page: str
    levels: tuple[int, ...]
    upper: tuple[str, ...]
    surface: tuple[str, ...]
    statics: tuple[str, ...]
    known: bool
    degree: int
    features: dict[str, Any]
    stages: str
    scored: tuple[Field, ...]


_DRY = ("geopotential", "temperature", "u_component_of_wind", "v_component_of_wind")
NATURES = {
    # The dry planet is spectral to degree 21, the Earth to 31; a grid of 64 columns resolves orders to 31.
    "held-suarez": Nature(
        model="held-suarez",
        title="Skill on a nature run",
        page="skill.md",
        levels=(250, 500, 850),
        upper=_DRY,
        surface=("surface_pressure",),
        statics=(),
        known=False,
        degree=22,
        features={"max_degree": 22},
        stages="500x1,80x2",
        scored=(
            ("geopotential", 500),
            ("temperature", 850),
            ("u_component_of_wind", 250),
            ("v_component_of_wind", 250),
        ),
    ),
    "speedy": Nature(
        model="speedy",
        title="Skill on an Earth-like nature run",
        page="skill_speedy.md",
        levels=(250, 500, 700, 850),
        upper=(*_DRY, "specific_humidity"),
        surface=("surface_pressure", "2m_temperature", RAIN),
        statics=("geopotential_at_surface", "land_sea_mask"),
        known=True,
        degree=30,
        features={"feature_grid": "96x48", "max_degree": 47, "filter_degree": 30},
        stages="800x1,120x2,80x4@5e-4,24x12@3e-4,140x20@2e-4",
        scored=(
            ("geopotential", 500),
            ("temperature", 850),
            ("2m_temperature", None),
            ("specific_humidity", 700),
            ("u_component_of_wind", 250),
            ("v_component_of_wind", 250),
            ("wind_vector", 250),
            ("wind_vector", 850),
            (RAIN, None),
        ),
    ),
}


def systems(nature: Nature) -> dict[str, ModelConfig]:
    """The networks."""
    paper = dataclasses.replace(
        paper_flat.get_config().model, scalar_channels=24, vector_channels=24, blocks=2, max_degree=nature.degree
    )
    return {
        OURS: ModelConfig(scalar_channels=32, vector_channels=16, blocks=3, filter_parameters=8, **nature.features),
        PAPER: paper,
        PLANAR: ModelConfig(kind="planar", scalar_channels=20, blocks=3),
        LARGE_PLANAR: ModelConfig(kind="planar", scalar_channels=62, blocks=3),
    }


def experiment(
    nature: Nature, model: ModelConfig, store: str, days: int, stages: tuple[Stage, ...], seed: int
) -> Config:
    """The experiment of one network; all but the network is the same."""
    end = FIRST + np.timedelta64(days - 1, "D")
    return Config(
        data=DataConfig(
            path=store,
            grid="64x32",
            level_variables=nature.upper,
            levels=nature.levels,
            surface_variables=nature.surface,
            static_variables=nature.statics,
            solar=nature.known,
            clock=nature.known,
            train=f"{FIRST}:{end}",
        ),
        model=model,
        optimiser=OptimiserConfig(learning_rate=3e-3, warmup_steps=50, average_decay=0.99),
        training=TrainingConfig(batch_size=4, seed=seed, stages=stages, checkpoint_every=100),
    )


class Run:
    """One network's training, a few steps at a time.

    Args:
        name: of the system.
        config: its experiment.
        folder: of the run; a checkpoint there is gone on from.
        reader, loader, normalisation: shared by all.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        folder: pathlib.Path,
        reader: StateReader,
        loader: WindowLoader,
        normalisation: Normalisation,
    ):
        self.name, self.config, self.folder = name, config, folder
        self.reader, self.loader, self.normalisation = reader, loader, normalisation
        channels, grid = reader.channels, reader.grid
        parts = take_apart(build(config.model, config.data, channels, grid, config.training.seed))
        self.parameters, self.tables = parameter_count(parts.parameters), parts.tables
        self.statics = reader.statics()
        self.scales = make_scales(channels, normalisation, self.statics, grid, loss=config.loss)
        self.step_function = make_train_step(parts.graph, config, vectors=len(channels.winds))
        state = initial_state(parts, make_optimiser(config.optimiser, config.training.stages))
        self.state = jax.tree.map(jnp.array, state)  # copied: the first step donates it
        self.checkpoints = Checkpoints(folder, keep=2)
        self.step, self.seconds, self.loss, self.megabytes = 0, 0.0, float("nan"), 0.0
        latest = self.checkpoints.latest
        if latest is not None:
            self.state = self.checkpoints.restore(self.state, latest)
            self.step = latest
            told = json.loads(self._clock(latest).read_text())
            # Runs of before memory was written hold none of it.
            self.seconds, self.loss, self.megabytes = told["seconds"], told["loss"], told.get("megabytes", 0.0)
        self.compiled: set[int] = set()

    def _clock(self, step: int) -> pathlib.Path:
        return self.folder / f"seconds_at_{step}.json"

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.step >= self.config.training.total_steps

    def turn(self, steps: int) -> int:
        """Trains up to so many steps, fewer at the end of a stage or at a checkpoint; returns how many.

        Compiling does not count as training time: two steps are taken in vain before, the second because a state
        that the step returned may compile anew.
        """
        first, stage = self.config.training.stage_at(self.step)
        every = self.config.training.checkpoint_every
        last = min(self.step + steps, first + stage.steps, (self.step // every + 1) * every)
        windows = self.loader.windows(stage.rollout_steps)
        size = self.config.training.batch_size
        begin, taken = time.perf_counter(), last - self.step
        while self.step < last:
            number = self.step - first
            batch = self.loader.batch(windows, self.loader.indices(windows, number * size, size))
            window = Fields(*(jnp.asarray(array) for array in batch[:3]))
            forcings = jnp.asarray(batch.forcings)
            if stage.rollout_steps not in self.compiled:
                given = self.state, self.tables, window, forcings, self.scales
                told = self.step_function.lower(*given).compile().memory_analysis()
                if told is not None:
                    held = told.temp_size_in_bytes + told.argument_size_in_bytes
                    self.megabytes = max(self.megabytes, held / 1e6)
                copy = jax.tree.map(jnp.array, self.state)
                for _ in range(2):
                    copy, _ = self.step_function(copy, self.tables, window, forcings, self.scales)
                jax.block_until_ready(copy)
                self.compiled.add(stage.rollout_steps)
                begin = time.perf_counter()
            self.state, report = self.step_function(self.state, self.tables, window, forcings, self.scales)
            self.step += 1
        self.loss = float(report.loss)
        self.seconds += time.perf_counter() - begin
        if self.step % every == 0 or self.done:
            cursor = Cursor(self.step, stage.rollout_steps, self.step - first, "")
            told = {"seconds": self.seconds, "loss": self.loss, "megabytes": self.megabytes}
            self._clock(self.step).write_text(json.dumps(told))
            self.checkpoints.save(
                self.state, self.config, self.normalisation, grid=self.reader.grid, cursor=cursor, statics=self.statics
            )
            self.checkpoints.wait()
        return taken


def train_all(experiments: dict[str, Config], folder: pathlib.Path, statistics: str, turn: int) -> dict[str, Any]:
    """Trains the networks in turns; gives parameters, steps, seconds and last loss of each."""
    data = next(iter(experiments.values())).data
    channels, grid = Channels.from_config(data), expected_grid(data)
    normalisation = Normalisation.from_statistics(read_statistics(statistics), channels, where=statistics)
    reader = StateReader.open(data.path, channels, normalisation, grid, time=data.train)
    loader = WindowLoader(
        reader,
        step=parse_duration(data.step),
        input_steps=data.input_steps,
        seed=0,
        cache_bytes=data.cache_gigabytes * 2**30,
    )
    runs = [
        Run(name, config, folder / name.replace(" ", "_"), reader, loader, normalisation)
        for name, config in experiments.items()
    ]
    with progress_bar(enabled=True) as bar:
        tasks = {
            run.name: bar.add_task(run.name, total=run.config.training.total_steps, completed=run.step) for run in runs
        }
        while not all(run.done for run in runs):
            # The one that is furthest behind goes next, so that a resumed run catches up first.
            run = min(runs, key=lambda run: run.step)
            run.turn(turn)
            bar.update(tasks[run.name], completed=run.step)
            print(f"{run.name} {run.step} {run.loss:.4f} {run.seconds / run.step:.3f} s/step", flush=True)
    found = {}
    for run in runs:
        run.checkpoints.__exit__()
        found[run.name] = {
            "parameters": run.parameters,
            "steps": run.step,
            "seconds": run.seconds,
            "loss": run.loss,
            "megabytes": run.megabytes,
        }
    return found


def out_of_reach(nature: Nature, store: str) -> str:
    """Why the nature run cannot be made here, nor is given; empty where it can or is."""
    if nature.model != "speedy" or store or importlib.util.find_spec("jcm") is not None:
        return ""
    return "the package jcm is not installed; pip install 'weather-scnn[earth]', or give --store"


def folder_of(workdir: pathlib.Path, nature: Nature, *, quick: bool) -> pathlib.Path:
    """Where what is made of a nature run is kept."""
    folder = workdir / "quick" if quick else workdir
    return folder if nature.model == "held-suarez" else folder / nature.model


def prepare(
    folder: pathlib.Path, nature: Nature, days: tuple[int, int, int], seed: int, store: str = ""
) -> tuple[str, str, str]:
    """The nature run, statistics and climatology, made where they are missing."""
    names = ("nature.zarr", "statistics.nc", "clim.zarr")
    made, statistics, climatology = (str(folder / name) for name in names)
    train, gap, test = days
    length = train + gap + test + LEAD_DAYS + 1
    if not store and not (pathlib.Path(made) / "zarr.json").exists():
        simulate(made, days=length, grid=Grid.from_name("64x32"), seed=seed, start=str(FIRST), model=nature.model)
    store = store or made
    period = f"{FIRST}:{FIRST + np.timedelta64(train - 1, 'D')}"
    if not pathlib.Path(statistics).exists():
        compute_statistics(store, statistics, time=period, step="6h")
    if not pathlib.Path(climatology).exists():
        compute_climatology(store, climatology, time=period, variables=[*nature.upper, *nature.surface])
    return store, statistics, climatology


def verify(folder: pathlib.Path, names: list[str], store: str, climatology: str, init: str) -> dict[str, xr.Dataset]:
    """Forecasts and scores of every network, and of the baselines with them."""
    found = {}
    for name in names:
        run = folder / name.replace(" ", "_")
        forecasts, scores = str(run / "forecast.zarr"), str(run / "scores.nc")
        forecast(str(run), store, forecasts, init=init, lead=f"{LEAD_DAYS}d", batch_size=16, overwrite=True)
        found[name] = score(
            forecasts, store, scores, climatology=climatology, baselines=("persistence", "climatology"), overwrite=True
        )
    return found


def pick(scores: xr.Dataset, system: str, metric: str, field: Field, days: int) -> float:
    """One number of a score file."""
    array = scores[field[0]].sel(system=system, metric=metric, region="global")
    if field[1] is not None:
        array = array.sel(level=field[1])
    return float(array.sel(lead_time=np.timedelta64(days * 24, "h").astype("timedelta64[ns]")))


def metrics_of(field: Field) -> tuple[str, ...]:
    """Rain is judged by SEEPS; winds as vectors have no anomaly correlation."""
    return {RAIN: ("seeps",), "wind_vector": ("rmse",)}.get(field[0], ("rmse", "acc"))


def table(scores: dict[str, xr.Dataset], nature: Nature) -> dict[str, dict[tuple[Field, str, int], float]]:
    """Numbers by system, then by (field, metric, lead in days)."""
    first = next(iter(scores.values()))
    sources = {name: (dataset, "model") for name, dataset in scores.items()}
    sources |= {name: (first, name) for name in ("persistence", "climatology")}
    return {
        name: {
            (field, metric, days): pick(dataset, system, metric, field, days)
            for field in nature.scored
            for metric in metrics_of(field)
            for days in LEADS
        }
        for name, (dataset, system) in sources.items()
    }


def label(field: Field, metric: str) -> str:
    """Head of a column."""
    name, level = field
    place = name if level is None else f"{name} {level} hPa"
    return place if metric != "rmse" else f"{place}, {UNITS.get(name, WIND)}"


def markdown(title: str, numbers: dict[str, Any], training: dict[str, Any], about: list[str]) -> str:
    """The committed table."""
    lines = [f"# {title}", "", *about, ""]
    lines += ["| network | parameters | steps | s/step | training min | memory of a step, MB | last loss |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, facts in training.items():
        lines.append(
            f"| {name} | {facts['parameters']:,} | {facts['steps']} | {facts['seconds'] / facts['steps']:.3f} | "
            f"{facts['seconds'] / 60:.1f} | {facts['megabytes']:.0f} | {facts['loss']:.4f} |"
        )
    known = next(iter(numbers.values()))
    for metric, form in (("rmse", ".4g"), ("acc", ".3f"), ("seeps", ".3f")):
        fields = list(dict.fromkeys(field for field, each, _ in known if each == metric))
        if not fields:
            continue
        lines += ["", f"{metric.upper()} at {', '.join(map(str, LEADS))} days (best in bold):", ""]
        heads = [label(field, metric) for field in fields]
        lines += ["| system | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for name, own in numbers.items():
            cells = []
            for field in fields:
                parts = []
                for days in LEADS:
                    values = [found[field, metric, days] for found in numbers.values()]
                    best = max(values) if metric == "acc" else min(values)
                    value = own[field, metric, days]
                    parts.append(f"**{value:{form}}**" if value == best else f"{value:{form}}")
                cells.append(" / ".join(parts))
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def rows(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    """{case, ours, peer, peer_name, ratio, unit}, ratio > 1 where ours is better."""
    found = []
    for name, values in numbers.items():
        for (field, metric, days), value in values.items():
            ours = numbers[OURS][field, metric, days]
            if name == OURS or (name == "climatology" and metric == "acc"):
                continue
            ratio = ours / value if metric == "acc" else value / ours
            unit = UNITS.get(field[0], WIND) if metric == "rmse" else "1"
            place = field[0] if field[1] is None else f"{field[0]} {field[1]} hPa"
            case = f"{metric} of {place} at {days} d"
            found.append({"case": case, "ours": ours, "peer": value, "peer_name": name, "ratio": ratio, "unit": unit})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nature", choices=NATURES, default="held-suarez", help="what is forecast")
    parser.add_argument("--store", default="", help="a nature run of that kind that is there already, of 1111 days")
    parser.add_argument("--workdir", type=pathlib.Path, default=HERE / "skill_runs")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    parser.add_argument(
        "--stages", default="", help="STEPSxROLLOUT[@RATE], separated by commas; default as the page tells"
    )
    parser.add_argument("--turn", type=int, default=25, help="steps before the next network's turn")
    parser.add_argument("--seed", type=int, default=0, help="of the nature run, the networks and the shuffling")
    parser.add_argument("--only", help="names of networks separated by semicolons")
    parser.add_argument("--quick", action="store_true", help="a few steps on a few days: shows that it runs")
    arguments = parser.parse_args()
    nature = NATURES[arguments.nature]
    if reason := out_of_reach(nature, arguments.store):
        print(f"skipped: {reason}")
        return
    days = (10, 2, 10) if arguments.quick else (TRAIN_DAYS, GAP_DAYS, TEST_DAYS)
    text = "4x1" if arguments.quick else arguments.stages or nature.stages
    stages = tuple(map(Stage.parse, text.split(",")))
    folder = folder_of(arguments.workdir, nature, quick=arguments.quick)
    folder.mkdir(parents=True, exist_ok=True)
    store, statistics, climatology = prepare(folder, nature, days, arguments.seed, arguments.store)
    chosen = arguments.only.split(";") if arguments.only else list(systems(nature))
    experiments = {
        name: experiment(nature, model, store, days[0], stages, arguments.seed)
        for name, model in systems(nature).items()
        if name in chosen
    }
    training = train_all(experiments, folder, statistics, arguments.turn)
    test = FIRST + np.timedelta64(days[0] + days[1], "D")
    init = f"{test}:{test + np.timedelta64(days[2] - 1, 'D')}:5d"
    numbers = table(verify(folder, list(experiments), store, climatology, init), nature)
    about = [
        f"Command: `python benchmarks/skill.py --nature {nature.model} --stages {text} --turn {arguments.turn} --seed {arguments.seed}`.",
        f"Nature run: 64x32, seed {arguments.seed}; {days[0]} days to train on, {days[1]} left out, {days[2]} to test "
        f"on; forecasts start every fifth day at 00. All networks: the same batches of 4, AdamW, {text} "
        "(steps x rollout steps).",
        f"{platform.machine()}, {os.cpu_count()} CPUs, JAX {jax.__version__} on {jax.default_backend()}, "
        f"Python {platform.python_version()}; other work on the machine hit all alike, in turns of "
        f"{arguments.turn} steps.",
    ]
    page = markdown(nature.title, numbers, training, about)
    print(page)
    if not arguments.quick and not arguments.only:
        (HERE / nature.page).write_text(page)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows(numbers), indent=1))


if __name__ == "__main__":
    main()
