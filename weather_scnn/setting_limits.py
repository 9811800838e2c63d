"""Least values of a configuration's settings."""

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
