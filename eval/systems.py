"""The forecast systems that a command names, `[NAME=]PATH`."""

from collections.abc import Sequence

from weather_scnn.errors import UserError
from weather_scnn.io.addresses import expanded

#: The first of them, unless it is named.
MODEL = "model"


def named_forecasts(texts: str | Sequence[str], model: str = MODEL) -> list[tuple[str, str]]:
    """Splits `[NAME=]PATH` into names and paths; the first without a name is the model, others go by their file.

    Raises:
        UserError: none is given, or two have the same name.
    """
    named: list[tuple[str, str]] = []
    for text in [texts] if isinstance(texts, str) else texts:
        name, equals, path = text.partition("=")
        if not equals or "/" in name or not name:
            path = text
            stem = path.rstrip("/").rsplit("/", 1)[-1].split(".")[0]
            name = model if model not in dict(named) else stem
        if name in dict(named):
            raise UserError(f"two forecasts are called {name!r}", remedy="name them, as in --forecast pangu=PATH")
        named.append((name, expanded(path)))
    if not named:
        raise UserError("no forecast was given", remedy="add --forecast PATH")
    return named
