"""Commands of the documentation, run as they stand there but for small data in place of large."""

import os
import pathlib
import re
import subprocess

from typer.testing import CliRunner

from weather_scnn.cli import app

ROOT = pathlib.Path(__file__).parents[1]
# The shell takes a line apart, with its quotes and variables; the command then runs in this process, which has JAX loaded.
_TAKEN_APART = "weather-scnn() { printf '%s\\0' \"$@\"; }; set -euo pipefail; "


def lines(page: str) -> list[str]:
    """Lines of the bash blocks of a page, in order."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def run(line: str, variables: dict[str, str], smaller: dict[str, str], added: str = "") -> str:
    """Runs a command of ours in the current folder and returns its name.

    Args:
        line: as it stands in the page.
        variables: of the shell.
        smaller: what stands in place of what in the line.
        added: further options.
    """
    for long, short in smaller.items():
        line = line.replace(long, short)
    environment = {**os.environ, **variables}
    parts = subprocess.run(
        ["bash", "-c", f"{_TAKEN_APART}{line} {added}"], env=environment, capture_output=True, text=True, check=False
    )
    assert parts.returncode == 0, f"{line}\n{parts.stderr}"
    words = parts.stdout.split("\0")[:-1]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
    return words[0]
