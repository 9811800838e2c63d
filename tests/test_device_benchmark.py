"""The benchmark of devices and its page, on a CPU; and the commands of docs/accelerators.md."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from benchmarks import device
from benchmarks.device_parts import kernel_kind

ROOT = pathlib.Path(__file__).parents[1]


def test_rows_stand_beside_their_peers_and_bounds():
    rows = [
        {"part": "peaks", "case": "product of 8 x 8, high", "value": 100.0, "unit": "TFLOP/s"},
        {"part": "peaks", "case": "copy of 2.0 GB", "value": 1000.0, "unit": "GB/s"},
        {"part": "round trips", "case": "a, scalar", "value": 2.0, "unit": "ms", "gigabytes": 0.5},
        {"part": "torch-harmonics", "case": "a, scalar", "value": 6.0, "unit": "ms"},
        {"part": "training step", "case": "t, float32", "value": 50.0, "unit": "ms", "flops": 2e12, "bytes": 1e10},
        {"part": "training step", "case": "out of memory", "value": None, "unit": "ms"},
    ]
    found = {(row["case"], row["peer_name"]): row["ratio"] for row in device.with_peers(rows)}
    assert found == {
        ("round trips: a, scalar", "torch-harmonics"): 3.0,
        ("round trips: a, scalar", "reading and writing field and spectrum once"): 0.25,
        # 20 ms of operations, 10 ms of bytes.
        ("training step: t, float32", "the shortest possible step, by operations"): pytest.approx(0.4),
    }
    page = device.page(rows, ["forecast: the time was over"], ["gpu", "Card", 1, "0.0"], "a command")
    assert "| a, scalar | 2 | ms | torch-harmonics: 3.00; reading" in page
    assert "| out of memory | – |" in page and "- forecast: the time was over" in page


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gemm_fusion_dot_12", "products"),
        ("sm90_xmma_gemm_f32", "products"),
        ("input_concatenate_fusion", "joins"),
        ("loop_dynamic_update_slice_fusion", "copies"),
        ("loop_add_fusion", "elementwise and others"),
    ],
)
def test_kernels_are_sorted_by_name(name, kind):
    assert kernel_kind(name) == kind


def test_parts_can_be_left_out():
    assert [part for part, _ in device.jobs(["peaks", "forecast"], small=True, quick=False)] == [
        "peaks", "forecast", "forecast",
    ]  # fmt: skip
    assert {part for part, _ in device.jobs(list(device.PARTS), small=False, quick=True)} == {
        "peaks", "round_trips", "torch",
    }  # fmt: skip


@pytest.mark.slow
def test_a_part_that_fails_costs_itself_only():
    rows, fault = device.in_process("training", True, {"name": "demo", "unknown": 1}, 60)
    assert rows == [] and "unknown" in fault


@pytest.mark.slow
def test_rows_come_from_a_process_of_their_own(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "device.py"), "--parts", "peaks", "--quick"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "rows.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and not done.stderr
    assert re.search(r"copy of .* \d+(\.\d+)? GB/s", done.stdout)
    assert json.loads((tmp_path / "rows.json").read_text()) == []  # peaks are what others are held against


@pytest.mark.slow
def test_all_parts_run_on_a_cpu():
    for part, arguments in device.jobs(list(device.PARTS), small=True, quick=False):
        if part == "torch" or arguments.get("rows", 64) > 64:
            continue
        rows, fault = device.in_process(part, True, arguments, 300)
        assert rows and not fault, (part, arguments, fault)


def test_commands_of_the_guide():
    from typer.main import get_command

    from weather_scnn.cli import app

    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "accelerators.md").read_text(), flags=re.DOTALL)
    lines = [line.split() for block in blocks for line in block.splitlines()]
    assert len(lines) == 2
    for words in lines:
        if words[0] == "weather-scnn":
            get_command(app).commands[words[1]].make_context(words[1], words[2:], resilient_parsing=False)
        else:
            assert words[0] == "python" and (ROOT / words[1]).exists()
