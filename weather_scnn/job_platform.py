"""Where the jobs on data run JAX: on the CPU, also where a GPU or TPU is visible, unless another is asked for.

A GPU's memory is taken whole by the first process that touches it, and a TPU serves one process alone: a worker that
makes vorticity must keep away from a training beside it. `$WEATHER_SCNN_JOB_PLATFORM` asks for another platform.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

from weather_scnn.errors import UserError

#: Environment variable that names the platform, such as cuda or tpu; cpu where it is not set.
VARIABLE = "WEATHER_SCNN_JOB_PLATFORM"


def job_platform() -> str:
    """The platform of jobs."""
    return os.environ.get(VARIABLE, "").strip().lower() or "cpu"


def keep_to_job_platform() -> None:
    """Lets JAX see that platform alone, in this process and in those it starts.

    For processes that do a job and nothing else, before JAX's first array: what JAX has set up by then it keeps. A
    platform asked for in `JAX_PLATFORMS` is meant for training and does not count.
    """
    os.environ["JAX_PLATFORMS"] = job_platform()
    # Several workers share a card that was asked for.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if (jax := sys.modules.get("jax")) is not None:
        jax.config.update("jax_platforms", job_platform())


@contextlib.contextmanager
def job_device() -> Iterator[None]:
    """Arrays made, and programs run, within this context lie on a device of the jobs' platform.

    It holds for the calling thread, also where JAX has set up an accelerator for something else.

    Raises:
        UserError: JAX has not got the platform asked for.
    """
    import jax

    try:
        devices = jax.local_devices(backend=job_platform())
    except RuntimeError as error:
        if job_platform() != "cpu":
            raise UserError(
                f"JAX has no platform {job_platform()!r} here", where=VARIABLE, remedy="leave it out, or set it to cpu"
            ) from error
        # A program that has set JAX up without the CPU has a single platform to give.
        devices = jax.local_devices()
    with jax.default_device(devices[0]):
        yield
