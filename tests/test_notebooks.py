"""The notebooks of the documentation: they run from top to bottom, and what they show is in them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = ["spectra_and_winds", "forecast", "two_models"]


def code(name):
    """The cells of code, in order."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_all_notebooks_are_looked_at():
    assert sorted(NAMES) == sorted(path.stem for path in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_was_run_from_top_to_bottom_and_shows_pictures(name):
    cells = code(name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in outputs)
    drawn = sum("image/png" in output.get("data", {}) for output in outputs)
    assert drawn == sum("".join(cell["source"]).count("plt.show()") for cell in cells) >= 2


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which they find each other's nature run."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, place):
    """In a process of its own, as in a fresh kernel; its own assertions hold."""
    script = place / f"{name}.py"
    script.write_text("\n\n".join("".join(cell["source"]) for cell in code(name)))
    environment = {**os.environ, "MPLBACKEND": "Agg", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, script], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = [line for cell in code(name) for line in "".join(cell["source"]).splitlines() if "print(" in line]
    assert bool(done.stdout.strip()) == bool(printed)
