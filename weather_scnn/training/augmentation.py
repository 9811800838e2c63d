"""Training windows turned about the axis or mirrored at the equator: what the atmosphere could as well have done.

The equations of motion on a rotating sphere do not know a longitude, and hold for the mirror image at the equator, whose
northward wind changes sign and whose Coriolis parameter 2Ω sin φ is that of its new place. Whatever drives the
atmosphere — terrain, land, the sun, the clock — goes with the window; coordinates are of the place and stay.

A spherical network commutes with rotations, up to what its non-linearities alias, so turned windows teach it next to
nothing; they teach networks with another idea of longitude. Mirrored ones teach either kind what one hemisphere's season has shown about
the other's.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from weather_scnn.nn import Fields, map_fields
from weather_scnn.training.channels import DataConfig
from weather_scnn.training.forcings import Phases


class Window(NamedTuple):
    """What a step of the training is given.

    Attributes:
        states: standardised, (b, t, y, x, c).
        forcings: `forcings.phases` of its times, (b, k, 7).
        statics: fields, then coordinates, (y, x, s).
    """

    states: Fields
    forcings: Float[Array, "b k 7"]
    statics: Float[Array, "y x s"]


def turned(field: Float[Array, "*b y x c"], angle: Float[Array, ""] | float) -> Float[Array, "*b y x c"]:
    """The field turned eastward about the axis, f(λ − α), exactly for all waves that the grid resolves.

    Args:
        field: on a full circle of equidistant longitudes.
        angle: α in radians. By whole columns the field is only moved. Of the shortest wave, two columns long, the grid
            holds one phase only: as much as is left of it there is kept.
    """
    columns = field.shape[-2]
    order = np.arange(columns // 2 + 1)
    phase = jnp.exp(-1j * angle * order)
    if columns % 2 == 0:
        phase = phase.at[-1].set(phase[-1].real)
    waves = jnp.fft.rfft(field, axis=-2) * phase[:, None]
    return jnp.fft.irfft(waves, n=columns, axis=-2).astype(field.dtype)


def rotated(window: Window, angle: Float[Array, ""] | float, coordinates: int) -> Window:
    """All that belongs to the planet turned eastward; the last `coordinates` of the static inputs stay."""
    image = _moved(window, lambda field: turned(field, angle), coordinates)
    return image._replace(forcings=Phases.of(window.forcings).turned(angle).packed())


def mirrored(window: Window, coordinates: int) -> Window:
    """The mirror image at the equator: rows change places, northward winds their sign, the season its half-year.

    Args:
        window: on a grid that is symmetric to the equator.
        coordinates: how many of the static inputs stay.
    """
    image = _moved(window, lambda field: field[..., ::-1, :, :], coordinates)
    states = image.states._replace(northward=-image.states.northward)
    return image._replace(states=states, forcings=Phases.of(window.forcings).mirrored().packed())


def _moved(window: Window, move, coordinates: int) -> Window:
    kept = window.statics.shape[-1] - coordinates
    statics = jnp.concatenate([move(window.statics[..., :kept]), window.statics[..., kept:]], axis=-1)
    return window._replace(states=map_fields(move, window.states), statics=statics)


def augmented(window: Window, kinds: tuple[str, ...], data: DataConfig, seed: int, step: Int[Array, ""]) -> Window:
    """A window turned by a random angle, or mirrored every other time, as `training.augment` asks for.

    The static fields are one for a whole batch, so its windows are turned alike.

    Args:
        window: as loaded.
        kinds: of `configuration.AUGMENTATIONS`.
        data: which coordinates there are.
        seed: of the run.
        step: of the run.
    """
    # Apart from the keys of the input noise, which are those of the step.
    turn, flip = jax.random.split(jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 1))
    coordinates = len(data.coordinates)
    if "rotation" in kinds:
        window = rotated(window, jax.random.uniform(turn, maxval=2 * math.pi), coordinates)
    if "mirror" in kinds:
        image = mirrored(window, coordinates)
        chosen = jax.random.bernoulli(flip)
        window = jax.tree.map(lambda one, other: jnp.where(chosen, one, other), image, window)
    return window
