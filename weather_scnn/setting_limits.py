"""Least values of a configuration's settings, and choices that there are."""

import typing
from collections.abc import Mapping

from weather_scnn.errors import UserError


def at_least(section: str, config: object, limits: Mapping[str, float]) -> None:
    """Refuses settings below their least value, and those that are not a number though they have the type of one.

    Settings of another type are left to whoever looks at types.

    Args:
        section: of the configuration, for the message.
        config: the dataclass.
        limits: least value of each setting.

    Raises:
        UserError: one is below.
    """
    for name, limit in limits.items():
        value = getattr(config, name)
        if isinstance(value, int | float) and not value >= limit:
            raise UserError(f"{section}.{name} is {value}", remedy=f"set it to at least {limit:g}")


def known_choices(section: str, config: object) -> None:
    """Refuses settings that are none of the choices of their type, a Literal, which a configuration file may pass by.

    Raises:
        UserError: one is none.
    """
    for name, kind in typing.get_type_hints(type(config)).items():
        choices = typing.get_args(kind)
        if typing.get_origin(kind) is typing.Literal and getattr(config, name) not in choices:
            raise UserError(f"{section}.{name} is {getattr(config, name)!r}", remedy=f"choose {' or '.join(choices)}")
