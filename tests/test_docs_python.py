"""Every Python block of docs/python.md runs, in order, on a small store in place of ERA5."""

import os
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda text: text.splitlines()[-1][:40])
def test_the_block_runs(block, run_of_waves, monkeypatch):
    monkeypatch.chdir(run_of_waves)
    exec(compile(block, "docs/python.md", "exec"), {})
    assert os.getcwd() == str(run_of_waves)
