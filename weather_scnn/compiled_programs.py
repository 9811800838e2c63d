"""Programs compiled quickly, and kept on disk, so that the next run of the same shapes begins at once.

JAX keeps them by a digest of the program, the compiler and the device; what it does not know on CPUs is which
instructions a machine has, so programs of CPUs lie in a folder for each kind of processor, as machines of a cluster may
share a home. JAX's own setting, `jax_compilation_cache_dir` or the variable of that name, goes before ours.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import platform

from weather_scnn.cache_folder import cache_folder

#: Environment variable with the folder of compiled programs; `off` keeps none.
VARIABLE = "WEATHER_SCNN_COMPILED"
_EMITTERS = "xla_cpu_use_fusion_emitters"


def directory() -> pathlib.Path | None:
    """Where programs are kept: $WEATHER_SCNN_COMPILED, else the user's cache directory; None if turned off."""
    root = cache_folder(VARIABLE, "compiled")
    return None if root is None else root / _processor()


def compile_quickly() -> None:
    """Lets XLA make kernels for CPUs by its older emitters, unless the user chose: to be called before JAX meets a device.

    With jaxlib 0.10 the demonstration's training step compiles in 23 s in place of 30, and its steps take as long. Where
    there are drivers of accelerators, nothing is done: each has an XLA of its own, and one that does not know a flag ends
    the process.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    drivers = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    if importlib.metadata.version("jaxlib").startswith("0.10.") and not drivers and _EMITTERS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{_EMITTERS}=false".strip()


def keep_compiled_programs() -> None:
    """Lets JAX keep what it compiles from here on, unless it was told where already, or the folder can't be written."""
    import jax

    folder = directory()
    if folder is None or jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a home that can't be written costs time only
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Else XLA's own caches, which hold paths, are part of what a GPU's programs are known by.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def _processor() -> str:
    """The kind of this processor: its architecture and the instructions that it has."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    told = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0] if lines else "")
    return f"{platform.machine()}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
