"""Residual blocks one after the other, as one loop in the compiled program."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.errors import UserError
from weather_scnn.nn.features import Table
from weather_scnn.nn.residual import FIELDS, SPECTRUM, ResidualBlock
from weather_scnn.sphere.spectrum import Spectrum

#: What the forward pass keeps of a block besides its input.
_KEPT: dict[str, tuple[str, ...]] = {"pointwise": (SPECTRUM, FIELDS), "grid": (SPECTRUM,), "block": ()}


def run_blocks(
    blocks: Sequence[ResidualBlock],
    spectrum: Spectrum,
    *,
    training: bool,
    mask: Float[Array, " b"] | None = None,
    noise: Float[Array, "b n"] | None = None,
    season: Float[Array, "b 2"] | None = None,
    remat: str = "none",
) -> Spectrum:
    """The spectrum after all blocks.

    Equal blocks in a row are one body of `lax.scan`, so that compiling takes as long for thirty as for one; their
    parameters are stacked for it, which costs a copy of them. Each keeps parameters of its own shape.

    Args:
        blocks: in order.
        spectrum: what the first takes.
        training: whether batch statistics are used and updated.
        mask: weight of every sample in the batch statistics.
        noise: the vector of noise of every sample.
        season: sine and cosine of the part of the year that has passed.
        remat: what the backward pass computes again: none; pointwise, the non-linearity; grid, all that is on the grid;
            block, all within a block.
    """
    if remat != "none" and remat not in _KEPT:
        raise UserError(f"the blocks' remat is {remat!r}", remedy=f"choose none or {' or '.join(_KEPT)}")
    parts: list[Any] = [nnx.split(block, nnx.BatchStat, Table, ...) for block in blocks]
    first = 0
    while first < len(blocks):
        graph, _, tables, _ = parts[first]
        last = first + 1
        while last < len(blocks) and _alike(parts[first], parts[last]):
            last += 1

        def body(spectrum, given, graph=graph, tables=tables):
            statistics, parameters = given
            # Mapped over, the statistics become variables of this trace, which the batch norms may then update.
            inner = nnx.merge(graph, jax.tree.map(lambda array: array, statistics), tables, parameters)
            result = inner(spectrum, training=training, mask=mask, noise=noise, season=season)
            return result, nnx.state(inner, nnx.BatchStat)

        if remat != "none":
            policy = jax.checkpoint_policies.save_only_these_names(*_KEPT[remat])
            # Within a loop nothing can be merged across the boundary, so no barrier is needed.
            body = jax.checkpoint(body, policy=policy, prevent_cse=last - first == 1)
        pieces = [(statistics, parameters) for _, statistics, _, parameters in parts[first:last]]
        if last - first == 1:
            spectrum, found = body(spectrum, pieces[0])
            updated = [found]
        else:
            stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *pieces)
            spectrum, found = jax.lax.scan(body, spectrum, stacked)
            updated = [jax.tree.map(lambda array, i=i: array[i], found) for i in range(last - first)]
        if training:
            for block, statistics in zip(blocks[first:last], updated):
                nnx.update(block, statistics)
        first = last
    return spectrum


def _alike(one: Any, other: Any) -> bool:
    """Whether two blocks differ in their values only."""
    return one[0] == other[0] and jax.tree.map(jnp.shape, one[1:]) == jax.tree.map(jnp.shape, other[1:])
