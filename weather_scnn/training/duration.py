"""How long a training takes, roughly: by what its steps cost against one another, and by how fast the devices are."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from weather_scnn.training.configuration import TrainingConfig

# Operations a second of a training step over those of one large product of matrices; see docs/training.md. On a card
# of 378 TFLOP/s in such products a step of configs/era5.py did 44.7.
_SHARE_OF_PRODUCT = {"cpu": 0.25, "gpu": 0.12, "tpu": 0.1}
# The same over the peak of a chip's matrix units in bfloat16, which small channels never fill.
_SHARE_OF_PEAK = 0.08
_SIDE = 1024
# Values of an array that no cache holds.
_COPIED = 1 << 26


def step_units(training: TrainingConfig, rollout: int) -> float:
    """Cost of a training step in forward passes of the network: 3 a forecast step, and more with rematerialisation."""
    again = {"none": 0, "step": 1, "nested": 2}
    auto = "none" if rollout == 1 else "step" if rollout <= 16 else "nested"
    full = min(training.backprop_steps or rollout, rollout)
    return (rollout - full) + full * (3 + again[auto if training.remat == "auto" else training.remat])


def units(training: TrainingConfig, begin: int, end: int) -> float:
    """Cost of the steps begin … end − 1 of a run, see `step_units`."""
    total, first = 0.0, 0
    for stage in training.stages:
        count = max(0, min(end, first + stage.steps) - max(begin, first))
        lengths = training.lengths[stage.rollout_steps]
        each = sum(step_units(training, length) for length in lengths) / len(lengths)
        total += count * each * training.members_of(stage)
        first += stage.steps
    return total


def planned_seconds(training: TrainingConfig, flops: Mapping[int, float], speed: float) -> float:
    """Seconds that all stages take.

    Args:
        training: stages and how they are differentiated.
        flops: operations of a step by rollout length, of some of the lengths; others follow by `step_units`.
        speed: operations a second of all devices together.
    """
    total = 0.0
    for stage in training.stages:
        nearest = min(flops, key=lambda length: abs(length - stage.rollout_steps))
        ratio = step_units(training, stage.rollout_steps) / step_units(training, nearest)
        most = max(training.members_of(each) for each in training.stages if each.rollout_steps == nearest)
        total += stage.steps * flops[nearest] * ratio * training.members_of(stage) / most
    return total / speed


def _rate(function: Callable[[jax.Array], jax.Array], array: jax.Array) -> float:
    """Calls a second of a compiled function."""
    function(array).block_until_ready()
    count, since = 0, time.perf_counter()
    while time.perf_counter() - since < 0.2:
        function(array).block_until_ready()
        count += 1
    return count / (time.perf_counter() - since)


def product_speed(device: Any) -> float:
    """Operations a second of a large product of float32 matrices, at JAX's default precision."""
    matrix = jax.device_put(jnp.ones((_SIDE, _SIDE), jnp.float32), device)
    return 2.0 * _SIDE**3 * _rate(jax.jit(lambda a: a @ a), matrix)


def copy_speed(device: Any) -> float:
    """Bytes a second that a large array is read and written with."""
    array = jax.device_put(jnp.ones(_COPIED, jnp.float32), device)
    return 2.0 * array.nbytes * _rate(jax.jit(lambda a: a + 1.0), array)


def device_speed(devices: list[Any], product: float) -> float:
    """Operations a second of a training on these devices, from `product_speed` of the first.

    Virtual devices of one host share its cores, so all of them together are as fast as one.
    """
    platform = devices[0].platform
    return _SHARE_OF_PRODUCT.get(platform, _SHARE_OF_PEAK) * product * (1 if platform == "cpu" else len(devices))


def chip_speed(peak_teraflops: float, chips: int) -> float:
    """Operations a second of a training on so many chips, from their peak in bfloat16."""
    return _SHARE_OF_PEAK * peak_teraflops * 1e12 * chips


def spell(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.{1 if seconds < 36000 else 0}f} h"
