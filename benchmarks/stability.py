"""Climate of rollouts over years: the spherical CNN of benchmarks/skill.py beside the paper-faithful and a planar CNN.

    python benchmarks/stability.py --workdir /tmp/skill --json stability.json
    python benchmarks/stability.py --workdir /tmp/skill --ablate --only "input noise;no batch norm"
    python benchmarks/stability.py --nature speedy --store speedy.zarr --workdir /tmp/speedy

All are trained on two years of a nature run by the package's own `train`; the spherical one with several seeds, the others
with one. Each is then rolled out once over `--years` from the first day of the test year, and over 60 days from twelve
days of that year for the power of small scales, which vary so much from week to week that one start says nothing.
Besides what benchmarks/skill.py gives them, the networks get the terrain and the clock: both planets have seasons, which
nothing else would tell a rollout of years.

`--ablate` adds variants of the spherical network, each with one seed and in one setting another. What is trained, its
rollouts and their figures are kept in the workdir, by stages, network and seed: the same command goes on, a part at a
time with `--only`, and the page is made of what is there, and says what is not.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

# The folder's own pipelines.py must not hide the package of that name.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import numpy as np
import xarray as xr

from benchmarks.skill import (
    FIRST,
    GAP_DAYS,
    LARGE_PLANAR,
    NATURES,
    OURS,
    PAPER,
    TEST_DAYS,
    TRAIN_DAYS,
    Nature,
    experiment,
    folder_of,
    out_of_reach,
    prepare,
    systems,
)
from weather_scnn.compiled_programs import keep_compiled_programs
from weather_scnn.errors import UserError
from weather_scnn.forecasting.stability import stability
from weather_scnn.forecasting.stability_file import open_stability
from weather_scnn.forecasting.stability_scores import small_scale_power, stability_scores, yearly_deviation
from weather_scnn.forecasting.stability_truth import DAY, YEAR, whole_years
from weather_scnn.forecasting.trained_run import load_run
from weather_scnn.io.atomic import write_whole
from weather_scnn.models import ModelConfig
from weather_scnn.training.checkpoints import parameter_count
from weather_scnn.training.configuration import Config, Stage
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.log import read_table
from weather_scnn.training.loop import train

HERE = pathlib.Path(__file__).parent
PEERS = (PAPER, LARGE_PLANAR)
SHORT_DAYS, STARTS, STARTS_APART = 60, 12, 30
#: Largest degree that the nature run and the networks both compute. Interpolation to levels gives the dry run, which is
#: spectral to degree 21, traces up to 31, which no network sees; the Earth is spectral to 31, its networks to 30.
RESOLVED = {"held-suarez": 21, "speedy": 30}
#: Share of the variance of a hemisphere's daily means that its annual harmonic has where there are seasons to follow.
SEASONAL = 0.9
#: Highest learning rate of benchmarks/skill.py.
RATE = 3e-3
PAGES = {"held-suarez": "stability.md", "speedy": "stability_speedy.md"}
ENDED = "–"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number of the table.

    Attributes:
        title: head of its column.
        aim: that of the truth, 0 or 1; the further from it, the worse.
        wanted: how far at most.
    """

    title: str
    aim: float
    wanted: float

    def distance(self, value: float | None) -> float:
        """From the aim; infinite where the rollout ended before."""
        return math.inf if value is None else abs(value - self.aim)


FIGURES = {
    "temperature_drift": Figure("drift of T", 0, 0.1),
    "pressure_drift": Figure("drift of p_s", 0, 0.1),
    "time_mean_error": Figure("error of time means", 0, 0.1),
    "power_at_60_days": Figure("power at 60 days", 1, 0.1),
    "power_at_the_end": Figure("power at the end", 1, 0.1),
    "seasonal_amplitude": Figure("amplitude of the seasons", 1, 0.1),
    "seasonal_days_late": Figure("days late", 0, 10),
}


def seasonal(nature: Nature) -> Nature:
    """The nature run with the terrain and the clock among the networks' inputs."""
    return dataclasses.replace(nature, known=True, statics=nature.statics or ("geopotential_at_surface",))


def base(nature: Nature) -> list[str]:
    """Settings of all networks: the dry planet does not feel the sun, and keeps the mean of its surface pressure."""
    dry = ["data.solar=false", "model.correctors.means=surface_pressure", "model.correctors.means_of=climate"]
    return dry if nature.model == "held-suarez" else ["model.correctors.dry_air=true"]


#: What rollouts of years need, see docs/stability.md; of the losses and inputs of all networks, and of the spherical one.
# A batch of windows that are far off has a loss well above its neighbours'.
LASTING = [
    "training.input_errors=1", "loss.kind=adjusted", "loss.whitening=0.5", "optimiser.average_decay=0.997",
    "training.explosion_factor=100",
]  # fmt: skip
OWN = ["model.direct=true", "model.seasonal=true"]


def variants(nature: Nature, stages: Sequence[Stage]) -> dict[str, list[str]]:
    """Settings of each variant of the spherical network."""
    total, dry = sum(stage.steps for stage in stages), nature.model == "held-suarez"
    rolled = [stage for stage in stages if stage.rollout_steps > 1]

    def written(**changed: Any) -> str:
        changes = {
            stage: dataclasses.replace(stage, **{name: of(stage) for name, of in changed.items()}) for stage in rolled
        }
        return "training.stages=" + ",".join(str(changes.get(stage, stage)) for stage in stages)

    longer = written(rollout_steps=lambda stage: 2 * stage.rollout_steps)
    # On the cosine, which goes to zero with the last step, rollouts come when hardly anything is learned any more.
    constant = written(learning_rate=lambda _: RATE / 10)
    held = {
        "mean surface pressure free": ["model.correctors.means="],
        "its mean that of the state": ["model.correctors.means_of=state"],
        "energy held": ["model.correctors.energy=hold"],
    } if dry else {
        "mass of dry air free": ["model.correctors.dry_air=false"],
        "no negative amounts": ["model.correctors.positive=rescale"],
    }  # fmt: skip
    of_rollouts = {
        "single steps": [f"training.stages={total}x1"],
        "rollouts twice as long": [longer],
        "rollouts at a tenth of the rate": [constant],
        "truncated backpropagation": ["training.backprop_steps=1"],
        "twice as long, truncated": [longer, "training.backprop_steps=1"],
    }
    return (of_rollouts if rolled else {}) | {
        "no errors on inputs": ["training.input_errors=0"],
        "white noise on inputs": ["training.input_errors=0", "training.input_noise=0.03"],
        "squared error": ["loss.kind=grid", "loss.whitening=0"],
        "whitened squared error": ["loss.kind=spectral"],
        "no whitening": ["loss.whitening=0"],
        "more whitening": ["loss.whitening=1"],
        "no direct convolution": ["model.direct=false"],
        "not seasonal": ["model.seasonal=false"],
        "all degrees": ["model.max_degree=0"],
        **held,
        "no average": ["optimiser.average_decay=0"],
        "shorter average": ["optimiser.average_decay=0.99"],
        "no batch norm": ["model.normalisation=none"],
        "bfloat16 activations": ["model.activations=bfloat16"],
        "no clock": ["data.clock=false", "data.solar=false"],
        "no terrain": ["data.static_variables="],
    }


def small(model: ModelConfig) -> ModelConfig:
    """A network that compiles in seconds."""
    vectors, degree = min(model.vector_channels, 2), min(model.max_degree, 8)
    return dataclasses.replace(model, scalar_channels=4, vector_channels=vectors, blocks=1, max_degree=degree)


@dataclasses.dataclass(frozen=True)
class Rollouts:
    """What every trained network is put to.

    Attributes:
        store: the nature run.
        statistics: of its training period.
        test: first day of the test year.
        days: of the long rollout.
        short: days, starts and days between them of the short ones.
        degree: largest that counts.
    """

    store: str
    statistics: str
    test: np.datetime64
    days: int
    short: tuple[int, int, int]
    degree: int

    def request(self, config: Config) -> dict[str, Any]:
        """What figures belong to."""
        return json.loads(json.dumps({"config": config.to_json(), "days": self.days, "short": self.short}))

    def measure(self, config: Config, folder: pathlib.Path) -> None:
        """Trains, rolls out and keeps the figures, each unless it is there."""
        kept, request = folder / "figures.json", self.request(config)
        if kept.exists() and json.loads(kept.read_text())["request"] == request:
            return
        train(config, folder, statistics=self.statistics)
        run, paths = load_run(folder), [folder / "years.nc", folder / "weeks.nc"]
        length, starts, apart = self.short
        last = self.test + np.timedelta64((starts - 1) * apart, "D")
        for path, days, init in (
            (paths[0], self.days, f"{self.test}T00"),  # the day alone would be its four initial times
            (paths[1], length, f"{self.test}:{last}:{apart}d"),
        ):
            stability(
                [run], self.store, str(path), init=init, years=days * float(DAY / YEAR), spectra=[f"{days}d"],
                batch_size=max(1, starts // 2), overwrite=True,
            )  # fmt: skip
        with open_stability(str(paths[0])) as years, open_stability(str(paths[1])) as weeks:
            found = figures(years.load(), weeks.load(), self.degree)
        minutes, step = 0.0, 0
        for row in read_table(folder / "metrics.csv"):
            minutes += (int(row["step"]) - step) / float(row["steps_per_second"]) / 60
            step = int(row["step"])
        found |= {"request": request, "parameters": int(parameter_count(run.parts.parameters)), "minutes": minutes}
        write_whole(str(kept), json.dumps(found, indent=1))


def furthest(values: xr.DataArray, figure: Figure) -> tuple[float | None, str]:
    """The value that is furthest from the aim, and its field; None where the rollout did not get there."""
    flat = values.stack(all=list(values.dims))
    name = next(dim for dim in values.dims if str(dim).endswith("field"))
    flat = flat[~np.isnan(flat.values)]
    if not flat.size:
        return None, ""
    place = int(np.argmax(abs(flat.values - figure.aim)))
    value = float(flat[place])
    return (value, str(flat[name].values[place])) if math.isfinite(value) else (None, "")


def figures(years: xr.Dataset, weeks: xr.Dataset, degree: int) -> dict[str, Any]:
    """Figures of one network, each of its worst field.

    Args:
        years: file of the long rollout, in memory; it has one system and one initial time.
        weeks: that of the short ones.
        degree: largest that counts in the power of small scales.

    Returns:
        `figures`, [value, field] by name, the value None where the rollout had ended, and under a year without the seasons; `truth`, figures of the truth's single years; `deviation`, the yearly standard deviation of the
        daily mean by field; `steps`, `finite_steps`, `ended_by` and `steps_per_second` of the long rollout.
    """
    scores = stability_scores(years).isel(system=0, init=0)
    fields = [str(name) for name in scores["field"].values]
    warm = [name for name in fields if name.startswith(("temperature@", "2m_temperature"))]
    chosen = {
        "temperature_drift": scores["drift"].sel(field=warm),
        "pressure_drift": scores["drift"].sel(field=["surface_pressure"]),
        "time_mean_error": scores["time_mean_error"],
    }
    for name, file in (("power_at_60_days", weeks), ("power_at_the_end", years)):
        power = file["spectrum"].isel(spectrum_lead=-1)
        # Where one of the rollouts had ended, there is no mean.
        own, truth = (power.isel(system=place).mean("init", skipna=False) for place in (0, -1))
        chosen[name] = small_scale_power(own, truth, degree)
    halves = scores.sel(region=["north", "south"], field=warm)
    # High up the temperature of a hemisphere hardly has seasons, of which there is no phase to follow.
    clear = halves["truth_seasonal_share"] > SEASONAL
    if years.sizes["day"] + 1 >= float(YEAR / DAY):
        chosen["seasonal_amplitude"] = halves["seasonal_amplitude_ratio"].where(clear)
        chosen["seasonal_days_late"] = halves["seasonal_phase_days"].where(clear)
    single, deviation = truth_years(years)
    return {
        "figures": {name: furthest(values, FIGURES[name]) for name, values in chosen.items()},
        "truth": {
            "temperature_drift": furthest(single.sel(field=warm), FIGURES["temperature_drift"]),
            "pressure_drift": furthest(single.sel(field=["surface_pressure"]), FIGURES["pressure_drift"]),
            "time_mean_error": furthest(scores["truth_time_mean_error"], FIGURES["time_mean_error"]),
        },
        "deviation": {name: float(deviation[place]) for place, name in enumerate(fields)},
        "steps": int(scores["steps"]),
        "finite_steps": int(scores["finite_steps"]),
        "ended_by": str(scores["ended_by"].values),
        "steps_per_second": float(scores["steps_per_second"]),
    }


def truth_years(years: xr.Dataset) -> tuple[xr.DataArray, np.ndarray]:
    """Global means of the truth's years less that of all, over the yearly standard deviation of the daily mean; and that."""
    times, held = years["time"].values, years["truth_global_mean"].values
    deviation, number = yearly_deviation(times, held), whole_years(times)
    number = np.zeros_like(number) if (number < 0).all() else number
    means = np.stack([np.nanmean(held[number == year], axis=0) for year in range(max(number.max() + 1, 1))])
    single = xr.DataArray((means - means.mean(axis=0)) / deviation, {"field": years["field"]}, ("year", "field"))
    single = single.where(len(means) > 1)  # one alone says nothing
    return single, deviation


def summary(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the seeds of one network: how many rollouts went to the end, the middle one of each figure, and the worst.

    Where a figure is of a rollout that ended before, it counts as worse than any. The worst is of those that were not so,
    and of two middle ones the worse is taken.
    """
    ended = [each["finite_steps"] < each["steps"] for each in found]
    told: dict[str, Any] = {"runs": len(found), "to_the_end": len(found) - sum(ended)}
    for name, figure in FIGURES.items():
        values = [each["figures"][name] for each in found if name in each["figures"]]
        if values:
            ordered = sorted(values, key=lambda value: figure.distance(value[0]))
            known = [value for value in ordered if value[0] is not None]
            told[name] = ordered[len(ordered) // 2], known[-1] if known else [None, ""]
    told["steps_per_second"] = float(np.median([each["steps_per_second"] for each in found]))
    told["minutes"] = float(np.median([each["minutes"] for each in found]))
    return told | {"parameters": found[0]["parameters"]}


def cell(value: Sequence[Any]) -> str:
    """A figure and its field."""
    return ENDED if value[0] is None else f"{value[0]:.3g} ({value[1]})"


def table(rows: Mapping[str, dict[str, Any]], head: str) -> list[str]:
    """One line a network."""
    names = [name for name in FIGURES if any(name in row for row in rows.values())]
    columns = [head, "parameters", "to the end", *(FIGURES[name].title for name in names), "steps/s", "training min"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for label, row in rows.items():
        cells = [label, f"{row['parameters']:,}", f"{row['to_the_end']} of {row['runs']}"]
        for name in names:
            middle, worst = row.get(name, ([None], [None]))
            cells.append(cell(middle) if row["runs"] == 1 else f"{cell(middle)}; {cell(worst)}")
        rate = f"{row['steps_per_second']:.0f}" if math.isfinite(row["steps_per_second"]) else ENDED
        lines.append("| " + " | ".join([*cells, rate, f"{row['minutes']:.1f}"]) + " |")
    wanted = [f"{figure.aim:g} ± {figure.wanted:g}" for figure in map(FIGURES.__getitem__, names)]
    return [*lines, "| wanted | | 9 of 10 | " + " | ".join(wanted) + " | | |"]


def truth_line(found: Mapping[str, Any]) -> str:
    """How far single years of the truth are off, and what drifts are counted in."""
    parts = [f"{FIGURES[name].title} {cell(value)}" for name, value in found["truth"].items() if value[0] is not None]
    units = ", ".join(
        f"{value:.2g} {'Pa' if name == 'surface_pressure' else 'K'} ({name})"
        for name, value in found["deviation"].items()
        if name == "surface_pressure" or name.startswith(("temperature@", "2m_temperature"))
    )
    told = f"The yearly standard deviation of the daily mean is {units}."
    return f"A single year of the truth beside all of its years: {', '.join(parts)}. {told}" if parts else told


def seed_of(found: Mapping[str, Any]) -> int:
    """Of the training."""
    return found["request"]["config"]["training"]["seed"]


def ends(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Where rollouts ended, and by what."""
    return [
        f"- {name}, seed {seed_of(each)}: after "
        f"{each['finite_steps'] / each['steps'] * each['request']['days']:.4g} days, {each['ended_by']}"
        for name, several in found.items()
        for each in several
        if each["finite_steps"] < each["steps"]
    ]


def rows(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """{case, ours, peer, peer_name, ratio, unit}, ratio > 1 where ours is better; null where a rollout ended before.

    Figures are the middle ones' distances from the truth's; beside each stands what is wanted.
    """
    ours, listed = found.get(OURS), []
    if ours is None:
        return []

    def add(case: str, one: float, other: float, peer: str, unit: str, better_if_larger: bool = False) -> None:
        known = [value if math.isfinite(value) else None for value in (one, other)]
        ratio = None
        if None not in known and (one if not better_if_larger else other):
            ratio = one / other if better_if_larger else other / one
        listed.append(
            {"case": case, "ours": known[0], "peer": known[1], "peer_name": peer, "ratio": ratio, "unit": unit}
        )

    share = "share of rollouts that went to the end"
    for name, figure in FIGURES.items():
        if name in ours:
            unit = "d" if name == "seasonal_days_late" else "1"
            own = figure.distance(ours[name][0][0])
            add(f"{figure.title}, off by", own, figure.wanted, "wanted at most", unit)
            for peer, row in found.items():
                if peer != OURS and name in row:
                    add(f"{figure.title}, off by", own, figure.distance(row[name][0][0]), peer, unit)
    own = ours["to_the_end"] / ours["runs"]
    add(share, own, 0.9, "wanted at least", "1", better_if_larger=True)
    for peer, row in found.items():
        if peer != OURS:
            add(share, own, row["to_the_end"] / row["runs"], peer, "1", better_if_larger=True)
            add("steps of rollouts a second", ours["steps_per_second"], row["steps_per_second"], peer, "1/s", True)
    return listed


def page(
    title: str,
    about: Sequence[str],
    compared: Mapping[str, Sequence[Mapping[str, Any]]],
    varied: Mapping[str, Sequence[Mapping[str, Any]]],
    settings: Mapping[str, Sequence[str]],
    absent: Sequence[str],
) -> str:
    """The committed page."""
    lines = [f"# {title}", "", *about]
    first = next(iter([*compared.values(), *varied.values()]), None)
    if first is not None:
        lines += ["", truth_line(first[0])]
    if compared:
        lines += ["", *table({name: summary(each) for name, each in compared.items()}, "network, middle; worst")]
    if varied:
        own = {f"{OURS}, seed 0": summary([each]) for each in compared.get(OURS, ()) if seed_of(each) == 0}
        labels = {name: f"{name}: {' '.join(f'`{text}`' for text in settings[name])}" for name in varied}
        lines += ["", "## One setting another", ""]
        lines += table(own | {labels[name]: summary(each) for name, each in varied.items()}, "variant")
    if over := ends({**compared, **varied}):
        lines += ["", "Rollouts that did not go to the end:", "", *over]
    if absent:
        lines += ["", "Not measured yet, or left out:", "", *(f"- {text}" for text in absent)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nature", choices=NATURES, default="held-suarez", help="what is forecast")
    parser.add_argument("--store", default="", help="a nature run of that kind that is there already, of 1111 days")
    parser.add_argument(
        "--workdir", type=pathlib.Path, default=HERE / "skill_runs", help="may be benchmarks/skill.py's"
    )
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    parser.add_argument("--stages", default="4000x1,300x4@5e-4,80x12@2e-4", help="STEPSxROLLOUT, separated by commas")
    parser.add_argument("--years", type=float, default=10.0, help="length of the rollouts")
    parser.add_argument("--seeds", type=int, default=10, help="trainings of the spherical network")
    parser.add_argument("--peer-seeds", type=int, default=1, help="trainings of the others")
    parser.add_argument("--ablate", action="store_true", help="variants of the spherical network, too, one seed each")
    parser.add_argument("--only", help="names of networks and variants separated by semicolons")
    parser.add_argument("--report", action="store_true", help="train nothing: the page of what is there")
    parser.add_argument(
        "--quick", action="store_true", help="tiny networks, a few steps, a few days: shows that it runs"
    )
    arguments = parser.parse_args()
    nature = seasonal(NATURES[arguments.nature])
    if reason := out_of_reach(nature, arguments.store):
        print(f"skipped: {reason}")
        return
    length = (10, 2, 10) if arguments.quick else (TRAIN_DAYS, GAP_DAYS, TEST_DAYS)
    text = "2x1" if arguments.quick else arguments.stages
    stages = tuple(map(Stage.parse, text.split(",")))
    days = 4 if arguments.quick else round(arguments.years * float(YEAR / DAY))
    short = (4, 1, 5) if arguments.quick else (SHORT_DAYS, STARTS, STARTS_APART)
    folder = folder_of(arguments.workdir, nature, quick=arguments.quick)
    settings = variants(nature, stages) if arguments.ablate else {}
    names = [OURS, *PEERS, *settings]
    default = [OURS, LARGE_PLANAR] if arguments.quick else names
    chosen = arguments.only.split(";") if arguments.only else default
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"--only names {unknown[0]!r}; choose of {'; '.join(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    keep_compiled_programs()
    store, statistics, _ = prepare(folder, nature, length, 0, arguments.store)
    put_to = Rollouts(
        store, statistics, FIRST + np.timedelta64(length[0] + length[1], "D"), days, short, RESOLVED[nature.model]
    )
    networks, found, absent = systems(nature), {}, []
    if arguments.quick:
        networks = {name: small(model) for name, model in networks.items()}
    for name in names:
        count = arguments.seeds if name == OURS else arguments.peer_seeds if name in PEERS else 1
        for seed in range(1 if arguments.quick else count):
            config = with_overrides(
                experiment(nature, networks.get(name, networks[OURS]), store, length[0], stages, seed),
                [*base(nature), *LASTING, *([] if name in PEERS else OWN), *settings.get(name, ())],
            )
            place = folder / "stability" / text.replace(",", "_") / f"{name.replace(',', '').replace(' ', '_')}_{seed}"
            reason = ""
            if name in chosen and not arguments.report:
                try:
                    put_to.measure(config, place)
                except UserError as error:
                    reason = f": {error}"
                    print(f"{name}, seed {seed}{reason}", file=sys.stderr)
            kept = place / "figures.json"
            told = json.loads(kept.read_text()) if kept.exists() else {}
            if told.get("request") == put_to.request(config):
                found.setdefault(name, []).append(told)
            else:
                absent.append(f"{name}, seed {seed}{reason}")
    title = "Climate of rollouts over years" + (" on an Earth-like nature run" if nature.model == "speedy" else "")
    about = [
        f"Command: `python benchmarks/stability.py --nature {nature.model} --stages {text} --years {arguments.years:g} "
        f"--seeds {arguments.seeds}{' --ablate' * arguments.ablate}`.",
        f"Nature run: 64x32, seed 0; {length[0]} days to train on with batches of 4, AdamW, {text} (steps x rollout steps); "
        f"{length[1]} left out; one rollout of {days} days from the first day of the test year, and {short[1]} of {short[0]} "
        f"days, {short[2]} days apart. Drift is that of global means, power that of the smallest fifth of the degrees to "
        f"{put_to.degree}, each over the truth's; every figure is that of its worst field. A rollout ends where it is not "
        f"finite or not plausible, and then counts as worse than any; the worst figure is of those that did not end.",
        f"{platform.machine()}, {os.cpu_count()} CPUs, JAX {jax.__version__} on {jax.default_backend()}, "
        f"Python {platform.python_version()}; other work ran on the machine.",
    ]
    compared = {name: each for name, each in found.items() if name not in settings}
    varied = {name: each for name, each in found.items() if name in settings}
    whole = page(title, about, compared, varied, settings, absent)
    print(whole)
    if not arguments.quick:
        (HERE / PAGES[nature.model]).write_text(whole)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows({name: summary(each) for name, each in found.items()}), indent=1))


if __name__ == "__main__":
    main()
