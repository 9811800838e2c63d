"""Every Python block of docs/python.md and of the README runs, on a small store and run in place of ERA5's."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BLOCKS = [
    block
    for page in ("docs/python.md", "README.md")
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
]


@pytest.fixture(scope="module")
def place(small_store, run, tmp_path_factory):
    """A folder with what the pages name."""
    folder = tmp_path_factory.mktemp("guide")
    (folder / "era5.zarr").symlink_to(small_store)
    (folder / "runs").mkdir()
    (folder / "runs" / "era5").symlink_to(run)
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=lambda text: text.splitlines()[-1][:40])
def test_the_block_runs(block, place, monkeypatch):
    monkeypatch.chdir(place)
    exec(compile(block, "guide", "exec"), {})
