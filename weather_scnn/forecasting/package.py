"""Packages of trained forecasters: a folder with what a forecast needs of a run, and a card that says what it is.

    MODEL/forecaster.json   configuration, moments, where it comes from, and the checksum of the next
    MODEL/weights.npz       averaged parameters and batch statistics, and the static fields
    MODEL/MODEL_CARD.md     for people

The JSON file is written last, so a folder that has it is whole.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import fsspec
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from weather_scnn.errors import UserError
from weather_scnn.io.addresses import expanded, is_remote, unreachable
from weather_scnn.io.atomic import write_whole
from weather_scnn.training.configuration import Config
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.rollout import Parts
from weather_scnn.training.run_folder import PACKAGE
from weather_scnn.version import __version__

_FORMAT, _VERSION = "weather-scnn forecaster", 1
_WEIGHTS, _CARD = "weights.npz", "MODEL_CARD.md"
_PARAMETERS, _MOMENTS, _STATICS = "parameters", "statistics", "statics"


class Package(NamedTuple):
    """What lies in a package.

    Attributes:
        config: the experiment.
        normalisation: moments of the channels.
        arrays: weights and static fields by name.
        where: its address, for messages.
        created_by: the version that wrote it.
    """

    config: Config
    normalisation: Normalisation
    arrays: Mapping[str, np.ndarray]
    where: str
    created_by: str

    @property
    def statics(self) -> Float[np.ndarray, "y x s"]:
        """Standardised static fields."""
        return self.arrays[_STATICS]

    def into(self, parts: Parts) -> Parts:
        """A network of this configuration with these weights.

        Raises:
            UserError: they do not fit.
        """
        try:
            return parts._replace(
                parameters=_filled(_PARAMETERS, parts.parameters, self.arrays),
                statistics=_filled(_MOMENTS, parts.statistics, self.arrays),
            )
        except (KeyError, ValueError) as error:
            raise UserError(
                f"holds other weights than the network of its configuration takes ({error})",
                where=self.where,
                remedy=f"use the version that wrote it, {self.created_by}",
            ) from error


def packed(parts: Parts, statics: Float[np.ndarray, "y x s"]) -> bytes:
    """Parameters, batch statistics and standardised static fields, as a package holds them."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {**_named(_PARAMETERS, parts.parameters), **_named(_MOMENTS, parts.statistics)}
    arrays[_STATICS] = np.asarray(statics, np.float32)
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def write_package(
    output: str,
    weights: bytes,
    description: Mapping[str, Any],
    card: str,
) -> None:
    """Writes a package; `packed` makes the weights, and `described` the description of them."""
    if not is_remote(output):
        os.makedirs(output, exist_ok=True)
    files = ((_WEIGHTS, weights), (_CARD, card), (PACKAGE, json.dumps(description, indent=1) + "\n"))
    for name, content in files:
        write_whole(f"{output}/{name}", content)


def described(weights: bytes, config: Config, normalisation: Normalisation, **more: str) -> dict[str, Any]:
    """The description of a package, with the checksum of its weights.

    Args:
        weights: as `packed` gives them.
        config: the experiment.
        normalisation: moments of the channels.
        more: name, licence and the like.
    """
    return {
        "format": _FORMAT,
        "format_version": _VERSION,
        "created_by": f"weather-scnn {__version__}",
        **more,
        "config": config.to_json(),
        "normalisation": normalisation.to_json(),
        "weights": {"file": _WEIGHTS, "bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()},
    }


def read_package(folder: str | os.PathLike) -> Package:
    """What lies in a package, local, gs:// or https://.

    Raises:
        UserError: it is none, of a later version, or not whole.
    """
    folder = expanded(str(folder)).rstrip("/")
    contents, weights = _contents(folder), _read(f"{folder}/{_WEIGHTS}")
    told = contents["weights"]
    if len(weights) != told["bytes"] or hashlib.sha256(weights).hexdigest() != told["sha256"]:
        raise UserError(
            f"holds {len(weights)} bytes that are not the {told['bytes']} which {PACKAGE} was written with",
            where=f"{folder}/{_WEIGHTS}",
            remedy="fetch the package again",
        )
    with np.load(io.BytesIO(weights)) as stored:
        arrays = dict(stored)
    config, normalisation = Config.from_json(contents["config"]), Normalisation.from_json(contents["normalisation"])
    return Package(config, normalisation, arrays, folder, contents["created_by"])


def _read(address: str) -> bytes:
    try:
        with fsspec.open(address, "rb") as file:
            return file.read()
    except Exception as error:  # each file system of fsspec has classes of its own
        raise unreachable(address, error) from error


def _contents(folder: str) -> dict[str, Any]:
    where = f"{folder}/{PACKAGE}"
    try:
        found = json.loads(_read(where))
        kind, version = found["format"], int(found["format_version"])
        if kind != _FORMAT:
            raise KeyError(kind)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "is not the description of a forecaster, or not all of it",
            where=where,
            remedy="give a folder that weather-scnn export wrote, or fetch it again",
        ) from error
    if version > _VERSION:
        raise UserError(
            f"is of version {version} of the format, and this program knows {_VERSION}",
            where=where,
            remedy=f"install {found.get('created_by', 'a newer version')}",
        )
    return found


def _named(kind: str, tree: Any) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {f"{kind}{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in leaves}


def _filled(kind: str, like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The tree with the arrays of its names.

    Raises:
        KeyError, ValueError: one is missing, or of another shape.
    """
    names, structure = _named(kind, like), jax.tree.structure(like)
    for name, own in names.items():
        if arrays[name].shape != own.shape:
            raise ValueError(f"{name} is of shape {arrays[name].shape}, not {own.shape}")
    return jax.tree.unflatten(structure, [jnp.asarray(arrays[name]) for name in names])
