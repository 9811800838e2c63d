"""From a run to a package of its forecaster, see `weather_scnn.forecasting.package`."""

import dataclasses
import os

import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.forecasting.model_card import last_name, model_card
from weather_scnn.forecasting.package import described, packed, write_package
from weather_scnn.forecasting.trained_run import load_run
from weather_scnn.io.addresses import expanded, located
from weather_scnn.io.outputs import refuse_unwritable
from weather_scnn.training.configuration import Config
from weather_scnn.training.run_folder import is_package


def export(
    workdir: str | os.PathLike,
    output: str | os.PathLike,
    *,
    step: int | str | None = None,
    scores: xr.Dataset | None = None,
    licence: str = "",
    about: str = "",
    overwrite: bool = False,
) -> str:
    """Writes the forecaster of a run as a package.

    Args:
        workdir: folder of the run, or another package.
        output: folder to write, local or an fsspec address.
        step: of the checkpoint, or `best_long_run`; the newest by default.
        scores: of this forecaster on data that it was not trained on, as `score` gives them, for the card.
        licence: of the weights and of what they were trained on.
        about: what it was trained on, in a sentence or two.
        overwrite: replace an older package.

    Returns:
        The card.

    Raises:
        UserError: there is no such checkpoint, it lacks its static fields, or something stands at the output.
    """
    output = expanded(str(output)).rstrip("/")
    _refuse_output(output, overwrite)
    run = load_run(str(workdir), step)
    if run.statics is None:
        raise UserError(
            "is a checkpoint of an old version, without its static fields",
            where=run.name,
            remedy="train one step further with this version",
        )
    weights = packed(run.parts, run.statics)
    description = described(
        weights,
        _without_paths(run.config),
        run.normalisation,
        name=output.rpartition("/")[2],
        licence=licence,
        about=about,
    )
    card = model_card(run, description, scores)
    write_package(output, weights, description, card)
    return card


def _without_paths(config: Config) -> Config:
    """Names in place of paths, which are of the machine that it was trained on."""
    data = dataclasses.replace(config.data, path=last_name(config.data.path), statistics="")
    training = dataclasses.replace(config.training, start_from=last_name(config.training.start_from))
    return dataclasses.replace(config, data=data, training=training)


def _refuse_output(output: str, overwrite: bool) -> None:
    filesystem, root = located(output)
    if filesystem.exists(root) and (not filesystem.isdir(root) or filesystem.ls(root)):
        if not is_package(output):
            raise UserError("is there, and is no package", where=output, remedy="choose another output")
        if not overwrite:
            raise UserError("already exists", where=output, remedy="add --overwrite, or choose another output")
    refuse_unwritable(output, parent_must_exist=False)
