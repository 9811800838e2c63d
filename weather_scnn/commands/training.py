"""Commands of training: the training itself, what it would cost, its settings."""

import dataclasses
import json
import os
import sys
from typing import Annotated

import typer

from weather_scnn.commands import console
from weather_scnn.commands.options import Assignments, ConfigFile, StorageOptions, Workdir
from weather_scnn.commands.sources import require
from weather_scnn.errors import UserError


def train(
    config: ConfigFile,
    workdir: Workdir,
    set_: Assignments = None,
    storage_option: StorageOptions = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="One of several processes, such as the hosts of a TPU slice.")
    ] = False,
) -> None:
    """Trains a forecaster, or goes on with a run that was interrupted."""
    from weather_scnn.io.outputs import check_workdir
    from weather_scnn.training.configuration import Config
    from weather_scnn.training.configuration_reading import load_config, with_overrides
    from weather_scnn.training.run_folder import is_trained, run_folder

    settings = with_overrides(load_config(config), set_ or [])
    if not settings.data.path:
        raise UserError("no training store is named", remedy="add --set data.path=S.zarr")
    check_workdir(workdir, {"data.path": settings.data.path, "data.statistics": settings.data.statistics})
    folder = run_folder(workdir, writable=True)
    if is_trained(folder, settings):
        _tell_trained(folder)
        return
    require(settings.data.path, settings.data.statistics)
    if distributed:
        import jax

        # A TPU slice describes itself; elsewhere the environment does, with JAX_COORDINATOR_ADDRESS.
        count, number = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
        jax.distributed.initialize(
            num_processes=int(count) if count else None, process_id=int(number) if number else None
        )
    from weather_scnn.compiled_programs import keep_compiled_programs
    from weather_scnn.training.loop import train as run
    from weather_scnn.training.preemption import Stopped

    keep_compiled_programs()

    def make_statistics(settings: Config, path: str) -> None:
        from pipelines.statistics import compute_statistics
        from weather_scnn.training.channels import Channels

        channels = Channels.from_config(settings.data)
        compute_statistics(
            settings.data.path, path, time=settings.data.train or None, step=settings.data.step,
            variables=[*channels.variables, *channels.statics],
        )  # fmt: skip

    try:
        run(settings, folder, make_statistics=make_statistics)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise typer.Exit(stopped.status) from None
    _tell_trained(folder)


def _tell_trained(folder: os.PathLike) -> None:
    curves, numbers = (os.path.join(folder, name) for name in ("curves.png", "metrics.csv"))
    console.print(f"Trained. Curves: {curves}, numbers: {numbers}", soft_wrap=True)


def plan(
    config: ConfigFile,
    devices: Annotated[int, typer.Option(help="Devices in all; training.mesh.model of them share samples.")] = 1,
    topology: Annotated[
        str, typer.Option(help="Compile for these TPUs, such as v5e:2x4; needs libtpu but no TPU.")
    ] = "",
    platform: Annotated[
        str, typer.Option(help="Lay the transforms out as on this one: cpu, gpu or tpu; else as on these devices.")
    ] = "",
    every_stage: Annotated[
        bool, typer.Option("--every-stage", help="Compile all lengths of rollouts, not only the first and the longest.")
    ] = False,
    set_: Assignments = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Prints parameters, operations, memory and communication per device, from the compiled program; needs no data."""
    from weather_scnn.training.configuration_reading import load_config, with_overrides

    settings = with_overrides(load_config(config), set_ or [])
    from weather_scnn.training.plan import plan as estimate

    found = estimate(settings, devices=devices, topology=topology, every_stage=every_stage, platform=platform)
    if json_:
        print(json.dumps(dataclasses.asdict(found)))
        return
    for table in found.render():
        console.print(table)


def settings() -> None:
    """Prints a page of all settings of a configuration, with their defaults and what they do."""
    from weather_scnn.training.settings_table import settings_page

    print(settings_page(), end="")
