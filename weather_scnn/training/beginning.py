"""What a run begins with, or goes on with: its moments, weights and place in the data."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from etils import epath

from weather_scnn.errors import UserError
from weather_scnn.io.statistics import read_statistics
from weather_scnn.training.assembly import Experiment
from weather_scnn.training.channels import Channels
from weather_scnn.training.checkpoints import Checkpoints, Cursor
from weather_scnn.training.configuration import Config, Stage
from weather_scnn.training.configuration_reading import differences
from weather_scnn.training.loss import channel_weights
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.optimiser import learning_rate_schedule
from weather_scnn.training.preparation import check_statistics, check_store
from weather_scnn.training.weights import Origin


class Beginning(NamedTuple):
    """What a run begins with, or goes on with.

    Attributes:
        config: the experiment; a run that goes on keeps what it was started from.
        normalisation: moments of the channels.
        origin: the checkpoint a new run begins with.
        started_from: where its weights came from, once.
        cursor: where in the data a resumed run stands.
        stages: those before they were extended.
    """

    config: Config
    normalisation: Normalisation
    origin: Origin | None = None
    started_from: dict[str, Any] | None = None
    cursor: Cursor | None = None
    stages: tuple[Stage, ...] = ()

    def told(self, experiment: Experiment, step: int) -> Iterator[str]:
        """What a person should know of it."""
        if self.origin is not None:
            new = experiment.new_parameters
            yield (
                f"begins with the weights of {self.origin.workdir}@{self.origin.step} ({self.origin.kind})"
                + (f"; {new:,} parameters are new" if new else "")
            )
        stages = self.config.training.stages
        if self.stages and self.stages != stages:
            optimiser = self.config.optimiser
            before, now = (float(learning_rate_schedule(optimiser, each)(step)) for each in (self.stages, stages))
            yield (
                f"extended from {sum(stage.steps for stage in self.stages)} to {self.config.training.total_steps} steps: "
                f"the learning rate, {before:.3g} by then, goes on at {now:.3g}"
            )


def begin(
    config: Config,
    statistics: str,
    folder: epath.Path,
    make_statistics: Callable[[Config, str], None] | None,
    kept: set[str],
) -> Beginning:
    """A new run's moments, from its statistics or the run whose weights it takes."""
    given = statistics or config.data.statistics
    path = given or str(folder / "statistics.nc")
    channels = Channels.from_config(config.data)
    channel_weights(channels, config.loss)  # what is wrong with them is said before a long period is read
    times = check_store(config)
    origin = Origin.of(config) if config.training.start_from else None
    if origin is not None and not given:
        return Beginning(config, origin.normalisation, origin, origin.provenance)
    if not given and make_statistics is not None and not epath.Path(path).exists():
        if jax.process_count() > 1:
            raise UserError(
                "several processes cannot make the statistics together",
                remedy="make them first with weather-scnn stats, and add --set data.statistics=FILE",
            )
        try:
            make_statistics(config, path)
        except UserError:
            kept.update(entry.name for entry in folder.iterdir() if entry.name != "checkpoints")
            raise  # the same command goes on with what it has finished
    found = read_statistics(path)
    period = f" --time {config.data.train}" if config.data.train else ""
    remedy = f"make them with weather-scnn stats --input {config.data.path}{period} --step {config.data.step}" + (
        ", or leave data.statistics out" if given else f", or remove {path}, so that train makes them anew"
    )
    normalisation = Normalisation.from_statistics(found, channels, where=path)
    if origin is not None:
        origin.check_statistics(normalisation, path)
        return Beginning(config, origin.normalisation, origin, origin.provenance)
    check_statistics(found, config, times, where=path, remedy=remedy)
    return Beginning(config, normalisation)


def resume(config: Config, folder: epath.Path, checkpoints: Checkpoints) -> Beginning:
    """What a run goes on with, from its newest checkpoint."""
    about = checkpoints.about(checkpoints.latest)
    changed = differences(about.config, config)
    if changed:
        raise UserError(
            f"was begun with another configuration: {'; '.join(changed)}",
            where=str(folder),
            remedy="choose another --workdir, or give the configuration it was begun with; only training.stages may "
            "grow, by further stages or a longer last one",
        )
    was = about.config.training
    training = dataclasses.replace(config.training, start_from=was.start_from, start_with=was.start_with)
    return Beginning(
        dataclasses.replace(config, training=training),
        about.normalisation,
        started_from=about.started_from,
        cursor=about.cursor,
        stages=was.stages,
    )


def check_windows(experiment: Experiment, cursor: Cursor | None, folder: epath.Path) -> None:
    if cursor is None:
        return
    found = experiment.loader.fingerprint(cursor.rollout_steps)
    if found != cursor.windows:
        raise UserError(
            f"was begun on {cursor.windows}, but the store now gives {found}, so it cannot go on from where it was",
            where=str(folder),
            remedy="give the store it was begun with, or data.train as then, or begin anew in another --workdir",
        )
