"""What a program costs, read off the program itself: floating-point operations, and bytes that pass between devices."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from weather_scnn.training.hlo_text import Program

# Collectives, and how often a device sends each byte of the result in a ring of many.
_PASSES = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1, "all-to-all": 1, "collective-permute": 1}
_GROUPS = re.compile(r"replica_groups=(\{\{[^}]*\}|\[\d+,(\d+)\])")
# Passes of a matrix unit through a product of float32, in passes at JAX's default precision there. On GPUs float32 itself
# goes another way, measured at 51 beside 378 TFLOP/s on an H200.
_PRODUCT_PASSES: dict[str, dict[Any, float]] = {
    "tpu": {jax.lax.Precision.HIGHEST: 6.0, jax.lax.Precision.HIGH: 3.0},
    "gpu": {jax.lax.Precision.HIGHEST: 7.4, jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3: 3.0},
}
# Products of bfloat16 beside those of TF32.
_HALF = {"gpu": 0.5}


def communication(program: Program) -> dict[str, int]:
    """Bytes a device sends in one run of a compiled program, by kind of collective.

    Counted for rings of many devices: an all-reduce passes each byte twice, the others once. Loops count as often as
    they run.
    """
    totals = dict.fromkeys(_PASSES, 0)
    for one, _, times in program.runs(into_fusions=True):
        kind = one.kind.removesuffix("-start")
        if kind in _PASSES:
            sizes = one.sizes
            if one.kind.endswith("-start") and kind != "all-reduce":
                sizes = sizes[len(sizes) // 2 :] if kind != "collective-permute" else sizes[:1]
            totals[kind] += times * _PASSES[kind] * sum(sizes) * _group_size_factor(kind, one.line)
    return {kind: count for kind, count in totals.items() if count}


def _group_size_factor(kind: str, line: str) -> int:
    """A reduce-scatter sends its whole operand, which is the result times the number of devices that share it."""
    if kind != "reduce-scatter":
        return 1
    groups = _GROUPS.search(line)
    if not groups:
        return 1
    return int(groups[2]) if groups[2] else groups[1].count(",") + 1


def product_operations(jaxpr: Any, platform: str) -> float:
    """Operations of the products of a traced program, times the passes that their precision takes on a platform."""

    def passes(equation: Any) -> float:
        if equation.primitive.name not in ("dot_general", "conv_general_dilated"):
            return 0.0
        if equation.invars[0].aval.dtype.itemsize < 4:
            return _HALF.get(platform, 1.0)
        asked = equation.params["precision"]
        asked = asked[0] if isinstance(asked, tuple) else asked
        return _PRODUCT_PASSES.get(platform, {}).get(asked, 1.0)

    return floating_point_operations(jaxpr, passes)


def floating_point_operations(jaxpr: Any, times: Callable[[Any], float] = lambda equation: 1.0) -> float:
    """Operations of a traced program on all devices together.

    Products of matrices count 2 for each pair of factors, an FFT of N complex values 5 N log₂ N (half for real ones),
    other operations 1 for each value that they give. Loops count as often as they run, which the compiler's own
    analysis leaves out.

    Args:
        jaxpr: from `jax.make_jaxpr`, or the `jaxpr` of a traced function.
        times: how often an equation counts.
    """
    total = 0.0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        inner = list(_inner(equation))
        if inner:
            costs = [floating_point_operations(one, times) for one in inner]
            name = equation.primitive.name
            if name == "cond":
                total += max(costs)
            elif name == "shard_map":
                mesh = equation.params["mesh"]
                axes = equation.params.get("newly_manual_axes", mesh.axis_names)
                total += sum(costs) * math.prod(mesh.shape[axis] for axis in axes)
            else:
                total += sum(costs) * (equation.params["length"] if name == "scan" else 1)
        else:
            total += times(equation) * _operations(equation)
    return total


def size_of(jaxpr: Any) -> tuple[int, int]:
    """Equations of a traced program, and how many of them join or reverse arrays, with those of inner programs.

    Inner programs count wherever they are called, and bodies of loops once.

    Args:
        jaxpr: as for `floating_point_operations`.
    """
    equations = movements = 0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        equations += 1
        movements += equation.primitive.name in _MOVEMENTS
        for inner in _inner(equation):
            more = size_of(inner)
            equations, movements = equations + more[0], movements + more[1]
    return equations, movements


def _inner(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, (core.Jaxpr, core.ClosedJaxpr)):
                yield one


def _operations(equation: Any) -> float:
    name, result = equation.primitive.name, equation.outvars[0].aval
    size = float(np.prod(getattr(result, "shape", ()), dtype=np.float64))
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2.0 * size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * size * math.prod(kernel) / outputs
    if name == "fft":
        kind = equation.params["fft_type"]
        real = kind in (jax.lax.FftType.RFFT, jax.lax.FftType.IRFFT)
        values = result.shape if kind == jax.lax.FftType.IRFFT else equation.invars[0].aval.shape
        length = math.prod(equation.params["fft_lengths"])
        return 5.0 * math.prod(values) * math.log2(length) / (2.0 if real else 1.0)
    if name in _FREE or not jnp.issubdtype(getattr(result, "dtype", np.int32), np.inexact):
        return 0.0
    return size


_MOVEMENTS = frozenset(("concatenate", "stack", "rev"))
# Movement of data, not arithmetic.
_FREE = frozenset(
    "broadcast_in_dim reshape transpose concatenate slice dynamic_slice dynamic_update_slice squeeze pad gather scatter "
    "rev copy copy_p convert_element_type select_n split expand_dims iota stop_gradient optimization_barrier real imag "
    "complex sharding_constraint split_dims name".split()
)
