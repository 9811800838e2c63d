"""What a configuration will cost on a mesh of devices, from the compiled program, before anything is run or bought.

The training step is compiled for the whole mesh, for its shapes alone: no table is computed, no data read, no device
of the mesh needed. Where this process has too few devices, another one is started that sees as many virtual ones; with
the package libtpu, the compiler of real TPUs takes their place, so that memory is what they will use.

Of the lengths of rollouts only the first and the longest are compiled by default: they need the least and the most, and
at 240x121 each takes the better part of a minute. Code for virtual devices is never run, so the compiler is told not to
make it fast, which halves that time; memory is assigned before that and stays the same.
"""

import concurrent.futures
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from weather_scnn.errors import UserError
from weather_scnn.nn import Fields
from weather_scnn.sphere.layouts import made_for
from weather_scnn.sphere.stored import shapes_only
from weather_scnn.training.channels import Channels
from weather_scnn.training.checkpoints import parameter_count
from weather_scnn.training.configuration import Config, Stage
from weather_scnn.training.correctors import Moments
from weather_scnn.training.duration import chip_speed, copy_speed, device_speed, planned_seconds, product_speed
from weather_scnn.training.forcings import PHASES, Forcings
from weather_scnn.training.hlo_cost import communication, floating_point_operations, product_operations, size_of
from weather_scnn.training.hlo_text import Program
from weather_scnn.training.loss import Scales, channel_weights
from weather_scnn.training.losses import make_loss
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.plan_costs import CHIPS, Plan, StageCost
from weather_scnn.training.rollout import Parts, build, take_apart
from weather_scnn.training.sharding import DATA, ENSEMBLE, MODEL, device_mesh, mesh_shape, put_constants, shardings
from weather_scnn.training.states import expected_grid
from weather_scnn.training.step import Ensemble, make_train_step

#: Whose layouts can be planned for.
PLATFORMS = ("cpu", "gpu", "tpu")

_VIRTUAL = re.compile(r"xla_force_host_platform_device_count=(?!1\b)")
_TOPOLOGY = re.compile(r"(v\d\w*):(\d+(?:x\d+)+)")
# Measured at 240x121: 23 s in place of 44 s, the same memory to 4 bytes in 1 GB.
_UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def plan(
    config: Config, *, devices: int = 1, topology: str = "", every_stage: bool = False, platform: str = ""
) -> Plan:
    """Compiles the training step of the shortest and the longest rollout for a mesh; needs no data.

    Args:
        config: the experiment; `training.mesh.model` of the devices share samples, the rest divide the batch.
        devices: how many.
        topology: compile for TPUs laid out like this, such as v5e:2x4; needs the package libtpu, but no TPU.
        every_stage: compile the lengths between the two as well.
        platform: lay the transforms out as on this one: cpu, gpu or tpu; default that of the devices. The compiler
            remains that of the devices.

    Raises:
        UserError: the devices do not divide by the mesh or the batch by them, or there is no such topology or platform.
    """
    if platform and platform not in PLATFORMS:
        raise UserError(f"the platform {platform!r}", remedy=f"choose {', '.join(PLATFORMS)}")
    if topology:
        found = _TOPOLOGY.fullmatch(topology)
        if not found:
            raise UserError(f"{topology!r} is no topology", remedy="give a chip and its layout, such as v5e:2x4")
        devices = math.prod(int(size) for size in found[2].split("x"))
    if devices < 1:
        raise UserError(f"{devices} devices", remedy="give --devices of 1 or more")
    if topology or devices > len(jax.devices()):
        mesh_shape(config.training, devices)  # errors before the long work
        return _in_another_process(config, devices, topology, every_stage, platform)
    name = jax.devices()[0].device_kind
    return compiled_plan(config, jax.devices()[:devices], name, every_stage=every_stage, platform=platform)


def compiled_plan(
    config: Config, devices: list[Any], name: str, *, every_stage: bool = True, platform: str = ""
) -> Plan:
    """See `plan`; for given devices, real or described."""
    platform = platform or devices[0].platform
    parts, mesh, traced = step_tracer(config, devices, platform)
    options = _UNOPTIMISED if devices[0].platform == "cpu" else None
    kind, present = name.split(":")[0], set(devices) <= set(jax.devices())
    peaks = speed = None
    shared = len(devices)
    if kind in CHIPS:
        _, teraflops, gigabytes = CHIPS[kind]
        peaks, speed = (teraflops * 1e12, gigabytes * 1e9), chip_speed(teraflops, len(devices))
    elif present and platform == devices[0].platform and not _VIRTUAL.search(os.environ.get("XLA_FLAGS", "")):
        product = product_speed(devices[0])
        speed = device_speed(devices, product)
        # What a CPU reads again comes from its caches, so its memory bounds nothing.
        peaks = None if platform == "cpu" else (product, copy_speed(devices[0]))

    def cost(rollout: int, flops: float, products: float, size: tuple[int, int], lowered: Any) -> StageCost:
        compiled = lowered.compile(compiler_options=options)
        memory, program = compiled.memory_analysis(), Program(compiled.as_text())
        accessed = program.bytes_accessed()
        return StageCost(
            rollout,
            flops,
            int(memory.argument_size_in_bytes),
            int(memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes),
            communication(program),
            *size,
            accessed,
            None if peaks is None else (products / (peaks[0] * shared), accessed / peaks[1]),
        )

    lengths = sorted({stage.rollout_steps for stage in config.training.stages})
    lengths = lengths if every_stage else sorted({lengths[0], lengths[-1]})
    # Tracing holds the interpreter, the compiler does not: while one length is compiled the next is traced.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        compiling = []
        for length in reversed(lengths):
            program = traced(length)
            flops, size = floating_point_operations(program.jaxpr), size_of(program.jaxpr)
            products = product_operations(program.jaxpr, platform)
            compiling.append(pool.submit(cost, length, flops, products, size, program.lower()))
        costs = tuple(each.result() for each in reversed(compiling))
    operations = {each.rollout_steps: each.flops for each in costs}
    counts = {str(key): parameter_count(subtree) for key, subtree in parts.parameters.items()}
    table_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(parts.tables))
    return Plan(
        counts,
        table_bytes,
        config.training.batch_size,
        (mesh.shape[DATA], mesh.shape[ENSEMBLE], mesh.shape[MODEL]),
        name,
        platform,
        costs,
        None if speed is None else planned_seconds(config.training, operations, speed),
        max(map(config.training.members_of, config.training.stages)),
    )


def step_tracer(config: Config, devices: list[Any], platform: str) -> tuple[Parts, Mesh, Callable[[int], Any]]:
    """Shapes of the network, the mesh, and what traces the training step of a rollout length.

    Args:
        config: the experiment.
        devices: real or described.
        platform: whose layout of the transforms is traced.
    """
    channels, grid = Channels.from_config(config.data), expected_grid(config.data)
    channel_weights(channels, config.loss)  # refused here as `train` would
    mesh = device_mesh(config.training, devices)
    c, d = len(channels.scalars), len(channels.winds)

    def constants() -> tuple[Parts, Scales]:
        parts = take_apart(build(config.model, config.data, channels, grid, config.training.seed))
        statics = (*grid.shape, channels.static_count)
        scalar, wind, static, area, channel = (jnp.zeros(shape) for shape in (c, d, statics, grid.shape[0], c + d))
        missing = jnp.zeros(c + d, bool) if channels.masked else None
        loss, forcings = make_loss(grid, config.loss), Forcings.on(grid, channels)
        of_statics = jnp.zeros(len(channels.statics))
        moments = Moments(scalar, scalar, wind, scalar, of_statics, of_statics)
        degrees = min(grid.maximum_degree, grid.maximum_order) + 1
        errors = jnp.zeros((degrees, c + 2 * d)) if config.training.input_errors else None
        return parts, Scales(scalar, wind, static, area, channel, forcings, missing, loss, moments, errors)

    with shapes_only(), made_for(platform, split=mesh.shape[MODEL] > 1):
        parts, scales = nnx.eval_shape(constants)
    state = jax.eval_shape(
        lambda: initial_state(_zeros(parts), make_optimiser(config.optimiser, config.training.stages))
    )
    state = jax.tree.map(_placed, state, shardings(state, mesh))
    tables, scales = put_constants((parts.tables, scales), mesh, abstract=True)
    samples = jax.NamedSharding(mesh, jax.P(DATA))

    def batch(*shape: int) -> Any:
        return jax.ShapeDtypeStruct((config.training.batch_size, *shape), np.float32, sharding=samples)

    def traced(rollout: int) -> Any:
        # Of the stages of this length that with most members.
        most = max(
            config.training.members_of(stage) for stage in config.training.stages if stage.rollout_steps == rollout
        )
        stage = Stage(1, rollout, members=most if most > 1 else None)
        staged = dataclasses.replace(config, training=dataclasses.replace(config.training, stages=(stage,)))
        step = make_train_step(parts.graph, staged, vectors=d, mesh=mesh if mesh.size > 1 else None)
        window = Fields(*(batch(config.data.input_steps + rollout, *grid.shape, size) for size in (c, d, d)))
        forcings = batch(rollout + 1, PHASES)
        ensemble = None
        if most > 1:
            ensemble = Ensemble(
                jax.ShapeDtypeStruct((most,), np.int32, sharding=jax.NamedSharding(mesh, jax.P(ENSEMBLE))),  # type: ignore[arg-type]
                jax.ShapeDtypeStruct((), np.float32, sharding=jax.NamedSharding(mesh, jax.P())),  # type: ignore[arg-type]
            )
        return step.trace(state, tables, window, forcings, scales, ensemble)

    return parts, mesh, traced


def _zeros(parts: Parts) -> Parts:
    new = {name: jax.tree.map(jnp.zeros_like, getattr(parts, name)) for name in ("parameters", "statistics")}
    return parts._replace(**new)


def _placed(like: Any, sharding: jax.NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=sharding)


def _in_another_process(config: Config, devices: int, topology: str, every_stage: bool, platform: str) -> Plan:
    flags = os.environ.get("XLA_FLAGS", "")
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={1 if topology else devices}",
        # Without these, libtpu asks the network of a cloud which machine it is on.
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # its lock is for real TPUs
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    request = {"config": config.to_json(), "topology": topology, "devices": devices}
    request |= {"every_stage": every_stage, "platform": platform}
    done = subprocess.run(
        [sys.executable, "-m", "weather_scnn.training.plan"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    answer = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 and done.stdout.strip() else None
    if answer is None:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(
            f"the program could not be compiled for {topology or f'{devices} devices'}: {last}",
            remedy="try fewer devices, or a topology that exists, such as v5e:2x4 or v5p:2x2x4",
        )
    if "error" in answer:
        raise UserError(answer["error"], remedy=answer["remedy"])
    return Plan.from_json(answer)


def _described(topology: str) -> list[Any]:
    """Devices of a TPU topology, of which none need exist."""
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except Exception as error:  # what libtpu and its absence raise is no documented class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"no compiler for {topology}: {reason}",
            remedy="install libtpu (pip install 'weather-scnn[tpu]'), and give a topology such as v5e:2x4 or v5p:2x2x4",
        ) from error


def _answer() -> None:
    """The other process: a request on standard input, a plan or an error on standard output."""
    request = json.load(sys.stdin)
    topology = request["topology"]
    try:
        devices = _described(topology) if topology else jax.devices()[: request["devices"]]
        name = topology or jax.devices()[0].device_kind
        config = Config.from_json(request["config"])
        options = {key: request[key] for key in ("every_stage", "platform")}
        result = dataclasses.asdict(compiled_plan(config, devices, name, **options))
    except UserError as error:
        result = {"error": error.what, "remedy": error.remedy}
    print(json.dumps(result))


if __name__ == "__main__":
    _answer()
