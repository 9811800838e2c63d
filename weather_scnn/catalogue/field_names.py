"""Names of single fields, a variable on one level if it has levels: for messages, and as people write them."""

from weather_scnn.catalogue.level_numbers import Level, level_number
from weather_scnn.errors import UserError


def field_in_words(name: str, level: Level | None) -> str:
    """For messages.

    >>> field_in_words("geopotential", 500), field_in_words("2m_temperature", None)
    ('geopotential at 500 hPa', '2m_temperature')
    """
    return name if level is None else f"{name} at {level} hPa"


def field_label(name: str, level: Level | None) -> str:
    """As settings and files have it.

    >>> field_label("geopotential", 500), field_label("2m_temperature", None)
    ('geopotential@500', '2m_temperature')
    """
    return name if level is None else f"{name}@{level}"


def wind_name(eastward: str) -> str:
    """Of both components together.

    >>> wind_name("10m_u_component_of_wind")
    '10m_wind'
    """
    return eastward.replace("u_component_of_", "")


def split_levels(text: str, setting: str = "data.level_variables") -> tuple[str, tuple[Level, ...] | None]:
    """A variable and its own levels, written name@500/850; None without."""
    name, at, levels = text.partition("@")
    try:
        return name, tuple(level_number(level) for level in levels.split("/")) if at else None
    except ValueError as error:
        raise UserError(f"{text!r} in {setting}", remedy=f"write it as {name}@500 or {name}@500/850, in hPa") from error
