"""The folder of a run, and how far the run has come; told without JAX."""

import json
import os
import secrets

from etils import epath

from weather_scnn.errors import UserError
from weather_scnn.io.addresses import expanded, located, unreachable
from weather_scnn.training.configuration import Config
from weather_scnn.training.configuration_reading import differences

CONFIGURATION = "config.json"
#: The description of a forecaster that was exported; see `weather_scnn.forecasting.export`.
PACKAGE = "forecaster.json"
#: Folder of the checkpoint that a long run found best, and its name for `--checkpoints`.
BEST_LONG_RUN = "best_long_run"
_COMMITTED = "commit_success.txt"


def run_folder(workdir: str | os.PathLike, *, writable: bool = False) -> epath.Path:
    """The folder of a run, absolute where it is local; gs:// and s3:// work too.

    Args:
        workdir: as given.
        writable: try whether a bucket can be written to, before any work is done.

    Raises:
        UserError: it cannot.
    """
    path = epath.Path(workdir)
    if "://" not in str(workdir):
        return path.expanduser().resolve()
    if writable:
        probe = path / f".writable_{secrets.token_hex(6)}"  # each of several hosts has its own
        try:
            probe.write_bytes(b" ")
            probe.unlink()
        except Exception as error:  # each file system of fsspec has classes of its own
            known = unreachable(str(workdir), error)
            raise UserError(
                known.what.replace("read", "written to", 1), where=known.where, remedy=known.remedy
            ) from error
    return path


def is_package(folder: str | os.PathLike) -> bool:
    """Whether an address, local, gs:// or https://, is that of an exported forecaster."""
    try:
        filesystem, root = located(f"{expanded(str(folder)).rstrip('/')}/{PACKAGE}")
        return filesystem.exists(root)
    except Exception:  # each file system of fsspec has classes of its own; what it is will be said by who reads it
        return False


def require_forecaster(workdir: str | os.PathLike) -> None:
    """Refuses an address where there is nothing to forecast with: neither a run with checkpoints nor a package.

    Raises:
        UserError: so it is.
    """
    if str(workdir).startswith(("http://", "https://")):
        if not is_package(workdir):
            raise UserError(
                f"no {PACKAGE} can be read there",
                where=str(workdir),
                remedy="give the address of a folder that weather-scnn export wrote",
            )
    elif not is_package(workdir):
        require_checkpoints(workdir)


def require_checkpoints(workdir: str | os.PathLike) -> None:
    """Refuses a folder without checkpoints to forecast from.

    Raises:
        UserError: it has none.
    """
    if not (run_folder(workdir) / "checkpoints").is_dir():
        raise UserError("holds no checkpoints", where=str(workdir), remedy="train first, or give the workdir of a run")


def finished_steps(folder: epath.Path) -> list[int]:
    """Steps of the finished checkpoints of a run, ascending.

    In a bucket nothing can be renamed, so there orbax marks a checkpoint that is whole with a file.
    """
    place, bucket = folder / "checkpoints", "://" in str(folder)
    found = place.iterdir() if place.is_dir() else ()
    return sorted(
        int(each.name) for each in found if each.name.isdigit() and (not bucket or (each / _COMMITTED).exists())
    )


def is_trained(folder: epath.Path, config: Config) -> bool:
    """Whether a run of this configuration has taken all its steps, so that there is nothing left to do."""
    steps = finished_steps(folder)
    if not steps or steps[-1] != config.training.total_steps:
        return False
    try:
        saved = Config.from_json(json.loads((folder / CONFIGURATION).read_text()))
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return False  # of another version perhaps: the checkpoint itself will tell
    return not differences(saved, config)
