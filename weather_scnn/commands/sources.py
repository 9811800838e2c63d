"""What commands look at before they load what their work needs."""

from weather_scnn.commands.options import names, pressure_levels


def check_paths(output: str, kind: str, *, overwrite: bool, **sources: str | list[str] | None) -> None:
    """Refuses an output, or a missing input, before what the work needs is loaded; the work looks again."""
    from weather_scnn.io.marks import Kind
    from weather_scnn.io.outputs import check_output

    named = {f"--{option}": paths for option, paths in sources.items()}
    check_output(output, Kind[kind], sources=named, overwrite=overwrite)


def require(*paths: str) -> None:
    """Refuses a path at which nothing is; what is left out is not asked for."""
    from weather_scnn.io.addresses import require_there

    for path in filter(None, paths):
        require_there(path)


def there(input: str) -> str | None:
    """A path as it is; None for a service, whose analyses are fetched."""
    from weather_scnn.io.addresses import is_live

    return None if is_live(input) else input


def fetched(input: str, variables: str | None, levels: str | None, time: str | None) -> tuple[str, str | None]:
    """What to read, and when: of a service a file that is fetched, of these times alone."""
    if there(input) is not None:
        return input, time
    from weather_scnn.live_analysis import analyses

    return analyses(input, names(variables), pressure_levels(levels), time), None


def check_duration(text: str | None, what: str, *likely: str) -> None:
    from weather_scnn.io.durations import parse_duration

    if text is not None:
        parse_duration(text, what, likely=likely)
