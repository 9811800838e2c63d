"""Forecasts of trained runs, single or ensembles, streamed to a Zarr store in the WeatherBench 2 layout."""

import dataclasses
import itertools
import logging
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.forecasting.amplitude import Fit, Fitted
from weather_scnn.forecasting.batch_writing import BatchWriter, Target
from weather_scnn.forecasting.batches import Batch, batches
from weather_scnn.forecasting.forecast_files import ForecastFiles, gathering_place, kind_of, require_format
from weather_scnn.forecasting.forecast_store import (
    forecast_template,
    refuse_stopped,
    to_dataset,
)
from weather_scnn.forecasting.initial_states import InitialStates, Perturber, whole_histories
from weather_scnn.forecasting.kept_fields import Kept
from weather_scnn.forecasting.lead_times import asked_leads
from weather_scnn.forecasting.members import Members, refuse_numbers
from weather_scnn.forecasting.perturbations import IncrementPerturbations
from weather_scnn.forecasting.plausible_states import Outcome, Stop, blanked, faults
from weather_scnn.forecasting.propagation import minute, propagate
from weather_scnn.forecasting.store_layout import StoreLayout, size_in_words
from weather_scnn.forecasting.trained_run import TrainedRun, load_runs
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.grib_writing import NO_CENTRE, require_centre, require_grib
from weather_scnn.io.initial_times import initial_times, split_init
from weather_scnn.io.outputs import check_output, refuse_sources
from weather_scnn.io.periods import parse_period
from weather_scnn.io.writing import StoreInProgress, attributes_of_unfinished, begin_store
from weather_scnn.nn import Fields, map_fields
from weather_scnn.progress import progress_bar
from weather_scnn.training.chance import Chance
from weather_scnn.training.channels import Channels
from weather_scnn.training.forcings import phases
from weather_scnn.training.loss import Scales, make_scales
from weather_scnn.training.states import StateReader

_logger = logging.getLogger(__name__)
_LEADS_PER_BLOCK = 8


@dataclasses.dataclass(frozen=True)
class _Job:
    """All that the batches of a forecast share."""

    store: StoreInProgress
    target: Target
    initial: InitialStates
    runs: list[TrainedRun]
    scales: list[Scales]
    leads: np.ndarray
    block: int
    ensemble: bool
    allow_implausible: bool
    seed: int

    def run(self, batch: Batch) -> None:
        """Rolls one batch out and writes it, a block of leads at a time.

        While a block is written the next one is computed; no more than two are on the device.
        """
        inits, members = batch.filled
        # Bound to the device as the parameters are, and so as a block leaves it: else the second block is compiled anew.
        history = jax.device_put(self.initial.histories(batch.run, inits, members), jax.local_devices()[0])
        outcome = Outcome()
        if self.initial.perturbations is not None:
            last = map_fields(lambda array: np.asarray(array[:, -1])[None], history)
            self.judge(batch, -1, self.physical(batch, last), outcome)
        starts, step = self.initial.starts[inits], self.leads[0]
        parts, scales, states = self.runs[batch.run].parts, self.scales[batch.run], None
        chance = Chance.begin(parts, self.seed, starts, members)
        waiting: tuple[int, Fields] | None = None
        writing = BatchWriter(self.target, batch, self.leads, starts)
        for begin in range(0, len(self.leads), self.block):
            if not self.all_stopped(batch, outcome):
                times = starts[:, None] + step * np.arange(begin, begin + self.block + 1)
                forcing = jnp.asarray(phases(times))
                history, chance, states = propagate(parts, history, scales, forcing, chance, leads=self.block)
            if states is None:  # nothing to start from
                states = map_fields(
                    lambda array: np.broadcast_to(array[:, -1], (self.block, *array[:, -1].shape)), history
                )
            if waiting is not None:
                writing.take(waiting[0], self.block_of(batch, *waiting, outcome))
            waiting = begin, states
        if waiting is not None:
            writing.take(waiting[0], self.block_of(batch, *waiting, outcome))
        writing.end()
        self.store.mark_done(batch.key, outcome.to_json())

    def all_stopped(self, batch: Batch, outcome: Outcome) -> bool:
        """Whether no forecast of a batch goes on."""
        return not self.allow_implausible and len(outcome.stops) == len(batch.places)

    def physical(self, batch: Batch, states: Fields) -> xr.Dataset:
        """Fields of the forecasts of a batch, without those that fill it up; states are (k, b, y, x, c)."""
        if len(batch.places) < len(batch.filled[0]):
            states = map_fields(lambda array: array[:, batch.places], map_fields(np.asarray, states))
        return to_dataset(
            map_fields(np.asarray, states), self.initial.reader, members=len(batch.members), ensemble=self.ensemble
        )

    def judge(self, batch: Batch, begin: int, fields: xr.Dataset, outcome: Outcome) -> None:
        """Notes where forecasts leave the plausible; `begin` is the position of the first lead, −1 the initial state."""
        reader = self.initial.reader
        for place, fault in faults(fields, reader.channels, reader.grid.area_weights, forecast=True).items():
            if place in outcome.stops:
                continue
            init, member = divmod(place, len(batch.members))
            lead = self.leads[0] * (begin + fault.position + 1)
            outcome.stops[place] = Stop(
                minute(self.initial.starts[batch.inits[init]]),
                int(batch.members[member]) if self.ensemble else None,
                float(lead / np.timedelta64(1, "h")),
                fault.field,
                fault.what,
            )

    def block_of(self, batch: Batch, begin: int, states: Fields, outcome: Outcome) -> xr.Dataset:
        """The fields of a block of leads that starts at position `begin`, judged."""
        stop = min(begin + self.block, len(self.leads))
        piece = self.physical(batch, map_fields(lambda array: array[: stop - begin], states))
        if not self.all_stopped(batch, outcome):
            self.judge(batch, begin, piece, outcome)
        if outcome.stops and not self.allow_implausible:
            ends = np.full(len(batch.places), np.inf)
            for place, each in outcome.stops.items():
                ends[place] = each.lead_hours
            piece = blanked(piece, self.leads[begin:stop] / np.timedelta64(1, "h") < ends[:, None])
        return outcome.clipped.clip(piece)


def open_states(runs: Sequence[TrainedRun], path: str) -> StateReader:
    """The store of initial states; checkpoints have the static fields of the training store, unless they are old."""
    channels: Channels = runs[0].channels
    if all(run.statics is not None for run in runs):
        channels = dataclasses.replace(channels, statics=())
    return StateReader.open(path, channels, runs[0].normalisation, runs[0].grid)


def _tell_absent(times: np.ndarray, starts: np.ndarray, init: str, where: str) -> None:
    """Tells of initial times that were asked for and are not there: what is written is then less than was meant."""
    period, step = split_init(init)
    bounds = parse_period(period)
    low, high = minute(times.min()), minute(times.max())
    if bounds.start and np.datetime64(low) > np.datetime64(bounds.start) and not low.startswith(bounds.start):
        _logger.warning("%s begins at %s, after the first initial time asked for, %s", where, low, bounds.start)
    if bounds.stop and np.datetime64(high) < np.datetime64(bounds.stop):
        _logger.warning("%s ends at %s, before the last initial time asked for, %s", where, high, bounds.stop)
    if step is not None:
        last = initial_times(times, period)[-1]
        asked = starts[0] + step * np.arange((last - starts[0]) // step + 1)
        absent = asked[~np.isin(asked, times)]
        if absent.size:
            _logger.warning(
                "%s lacks %d of %d initial times, the first at %s", where, absent.size, asked.size, minute(absent[0])
            )


def forecast(
    workdir: str | Sequence[TrainedRun],
    input: str,
    output: str,
    *,
    init: str,
    lead: str | None = None,
    leads: str | None = None,
    variables: Sequence[str] | None = None,
    derived: Sequence[str] = (),
    levels: Sequence[float] | None = None,
    region: str | None = None,
    members: int | None = None,
    perturbation: str | None = None,
    amplitude: float | str = "auto",
    seed: int = 0,
    checkpoints: str | None = None,
    batch_size: int = 8,
    allow_implausible: bool = False,
    format: str = "zarr",
    chunks: str | None = None,
    shards: str | None = None,
    centre: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Forecasts from every initial time, writing each as it comes.

    An ensemble has the dimension `realization`. Member 0 is the control: the newest checkpoint from the unperturbed
    state, the same as the single forecast. A network trained with noise makes its members by that, from unperturbed states;
    member k is the same whatever their number, and member 0 is the single forecast. With several checkpoints members are dealt to them in turn, and the first
    of each is not perturbed.

    A forecast that leaves what the catalogue calls plausible stops: it is NaN from that lead on, and the store's
    attribute `stopped` tells where; the others go on. Values below zero of what is never negative are written as zero,
    counted in the attribute `clipped`; the state that the next step starts from keeps them, since the network was
    trained so, and since set to zero they would be a source of water that no step accounts for.

    Args:
        workdir: folder of a run with a checkpoint; nothing else of the run is read, but the validation period of its
            training store to fit the amplitude. Or forecasters that are loaded already.
        input: store with the initial states.
        output: Zarr store to write, dimensions time (initial) [× realization] × prediction_timedelta × [level ×]
            latitude × longitude; or a folder of files, one an initial time, see `format`.
        init: A:B[:STEP], inclusive, or `latest`.
        lead: longest lead, such as 10d; leads are multiples of the forecaster's step.
        leads: in place of it, single ones and ranges to keep, such as 6h,1d:10d:1d.
        variables: to keep, by any name of the catalogue; all of the state by default.
        derived: fields made from the state and kept beside them, by `weather_scnn.io.derived`: 10m_wind_speed,
            thickness_1000_500, total_precipitation_24hr. What they are made from need not be kept.
        levels: to keep, hPa.
        region: to keep: a name such as europe, a zonal band such as 30n-60n, or edges W,S,E,N in degrees.
        members: size of the ensemble; by default one a checkpoint.
        perturbation: of the initial states: `increments`, `bred` or `none`; by default increments where members
            outnumber checkpoints and the network has no noise of its own. See `weather_scnn.forecasting.perturbations`.
        amplitude: of the perturbations, in standard deviations of the increments over one step; `auto` fits the spread
            to the error of the mean at a day, see `weather_scnn.forecasting.amplitude`.
        seed: of the random numbers, with the member and the initial time.
        checkpoints: `last:N`, or steps of the run and workdirs of other runs with commas between; the newest by default.
        batch_size: forecasts run side by side, initial times × members.
        allow_implausible: start from states, and go on with forecasts, that the catalogue finds impossible.
        format: zarr; netcdf, after CF-1.10; or grib2, with 16 bits a value.
        chunks, shards: of the Zarr store, such as prediction_timedelta=1. By default a chunk holds eight leads of a
            member, and a store of more than 1,000 of them has a shard an initial time.
        centre: originating centre in GRIB, a number of the WMO's common table C-11; by default none.
        overwrite: replace an existing output.
        progress: whether to show a bar and to tell what was chosen and clipped.

    Raises:
        UserError: the store does not fit the run, an initial state is missing or not plausible, members would be the
            same; or, when everything is written, a forecast has stopped.
    """
    refuse_numbers(members, amplitude, seed, batch_size)
    require_format(format, output)
    if format != "zarr" and (chunks or shards):
        raise UserError("--chunks and --shards are of Zarr stores", remedy=f"leave them out with --format {format}")
    if format == "grib2":
        require_centre(NO_CENTRE if centre is None else centre)
    elif centre is not None:
        raise UserError("--centre is of GRIB", remedy="leave it out, or add --format grib2")
    if not overwrite:
        refuse_stopped(output)
    if isinstance(workdir, str):
        refuse_sources(output, {"--workdir": workdir}, inside_is_fine=True)
    check_output(output, kind_of(format), sources={"--input": input}, overwrite=overwrite)
    runs = load_runs(workdir, checkpoints) if isinstance(workdir, str) else list(workdir)
    data = runs[0].config.data
    step, input_step = parse_duration(data.step), data.input_interval
    noise = any(run.config.model.noise.present for run in runs)
    chosen = Members.settle(members, len(runs), perturbation, amplitude, direct=data.direct, noise=noise)
    asked = asked_leads(lead, leads, step)
    steps = int(asked[-1] // step)
    kept = Kept.settle(
        runs[0].channels, runs[0].grid, step, asked, variables=variables, derived=derived, levels=levels, region=region
    )
    if format == "grib2":
        require_grib(kept.names, runs[0].grid, kept.kept_levels)
    reader = open_states(runs, input)
    if init.strip() == "latest":
        init = minute(reader.times.max())
    starts = initial_times(reader.times, init, where=input)
    if data.direct and steps > 1:
        raise UserError(
            f"the run forecasts {data.step} at once from states {data.input_step} apart, so it cannot go on from there",
            remedy=f"give --lead {data.step}",
        )
    initial = InitialStates(reader, starts, whole_histories(reader, starts, input_step, data.input_steps))
    scales = [
        make_scales(run.channels, run.normalisation, reader.statics() if run.statics is None else run.statics, run.grid)
        for run in runs
    ]
    ensemble = chosen.count > 1 or members is not None
    # Blocks of one length, so that the last runs hardly beyond the longest lead.
    block, every_lead = -(-steps // -(-steps // _LEADS_PER_BLOCK)), step * np.arange(1, steps + 1)
    names = [run.name for run in runs]
    choices = {"members": chosen.count, "perturbation": chosen.kind, "seed": seed} if ensemble else {}
    if noise:
        choices |= {"noise": "of the network", "seed": seed}
    if chosen.perturbed:
        choices["amplitude"] = chosen.amplitude
    request = {"init": init, "lead": lead, "leads": leads, "input": input, "format": format, "centre": centre,
               "variables": variables, "derived": derived, "levels": levels, "region": region, "chunks": chunks,
               "shards": shards, "checkpoints": names, "batch_size": batch_size, **choices}  # fmt: skip
    request["run"] = [run.config.to_json() for run in runs]
    request["allow_implausible"] = allow_implausible
    place = gathering_place(output, format)
    begun = attributes_of_unfinished(place, request)
    if not begun:
        initial.judge(allow_implausible=allow_implausible)
    if chosen.perturbed:
        random = IncrementPerturbations.estimate(
            reader, step, amplitude=1.0, seed=seed, allow_implausible=allow_implausible
        )
        perturber = Perturber(runs, scales, chosen.kind == "bred", random, step)
        # What the breeding needs is refused before the amplitude is fitted.
        initial = dataclasses.replace(initial, perturbations=perturber(reader, 1.0))
        if perturber.bred and not begun:
            initial.judge(allow_implausible=allow_implausible)
        if chosen.amplitude is not None:
            fitted = Fitted(chosen.amplitude, "")
        elif begun:
            fitted = Fitted(float(begun["amplitude"]), str(begun["amplitude_fit"]))
        else:
            fitted = Fit(
                perturber, reader, starts, every_lead[-1], input_step, chosen.count, batch_size, allow_implausible
            )()  # fmt: skip
            if progress:
                print(f"amplitude {fitted.amplitude:g}: {fitted.about}", file=sys.stderr)
        choices["amplitude"] = fitted.amplitude
        if fitted.about:
            choices["amplitude_fit"] = fitted.about
        initial = dataclasses.replace(initial, perturbations=perturber(reader, fitted.amplitude))
    about = chosen.about(len(runs)) if ensemble else None
    template = forecast_template(
        reader, kept, starts, source=input, run=", ".join(names), about_members=about, **choices
    )
    parts = list(batches(len(starts), chosen.count, len(runs), batch_size))
    layout = StoreLayout.settle(
        template, block, parts[0].size, dealt=len(runs) > 1, chunks=chunks, shards=shards, sharded=format == "zarr"
    )
    _tell_absent(reader.times, starts, init, input)
    files = None
    if format == "zarr":
        store = begin_store(output, template, request=request, overwrite=overwrite, encoding=layout.encoding)
    else:
        files = ForecastFiles.begin(
            output, format, template, request=request, overwrite=overwrite, encoding=layout.encoding, grid=reader.grid,
            centre=NO_CENTRE if centre is None else centre,
        )  # fmt: skip
        store = files.store
    if progress:
        print(size_in_words(template, format, output), file=sys.stderr)
    target = Target(store.path, kept, layout.gathers, len(runs), ensemble)
    job = _Job(store, target, initial, runs, scales, every_lead, block, ensemble, allow_implausible, seed)
    with progress_bar(rich.progress.MofNCompleteColumn(), "forecasts", enabled=progress) as bar:
        task = bar.add_task("forecast", total=len(starts) * chosen.count)
        for batch, following in itertools.zip_longest(parts, parts[1:]):
            if batch.key not in store.done:
                job.run(batch)
            bar.update(task, advance=len(batch.inits) * len(batch.members))
            if files is not None and (following is None or following.inits[0] != batch.inits[0]):
                for position in batch.inits:
                    files.make(int(position))
    outcome = Outcome.together(store.read(batch.key) for batch in parts)
    (store if files is None else files).finish(outcome.attributes(kept=allow_implausible))
    if progress:
        for line in outcome.lines(kept=allow_implausible):
            print(line, file=sys.stderr)
    if outcome.stops and not allow_implausible:
        raise outcome.error(output)
