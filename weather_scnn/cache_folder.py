"""Where what can be made again is kept between runs."""

import os
import pathlib


def cache_folder(variable: str, name: str) -> pathlib.Path | None:
    """The folder that an environment variable names, else one of the user's cache directory; None if turned off.

    Args:
        variable: of the environment; `off`, or empty, keeps nothing.
        name: of the folder in the user's cache directory.
    """
    chosen = os.environ.get(variable)
    if chosen is not None and chosen.lower() in ("", "off"):
        return None
    if chosen:
        return pathlib.Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path("~/.cache").expanduser()
    return pathlib.Path(base) / "weather-scnn" / name
