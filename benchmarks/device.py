"""How fast a GPU, a TPU or a CPU is at this work: its peaks, transforms, training and forecast steps.

    python benchmarks/device.py --json device.json

takes under 6 minutes on one GPU or TPU, downloads nothing, and writes benchmarks/device.md. Each part runs in a process
of its own, whose rows are kept as they come, so a part that fails or is stopped costs what it had left only. Parts:
`peaks`, `round_trips` (beside torch-harmonics where it is installed), `training`, `forecast`; choose with `--parts` or
leave out with `--skip`. On a CPU sizes are small. `--quick` takes the peaks and the smallest transforms.

Peers in the JSON rows: torch-harmonics at the same precision on the same device; the time that the card needs to read
and write the field and the spectrum; and for a training step the longer of what its operations take at the measured rate
of products and what its bytes take at the measured rate of a copy.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
Row = dict[str, Any]

PARTS = ("peaks", "round_trips", "training", "forecast")
ROWS = (64, 128, 181, 361)
STEPS = (("era5", 32), ("era5_1p5", 8), ("era5_0p25", 1))
BUDGET = 350.0
_LOOK = (
    "import json, jax; d = jax.devices(); print(json.dumps([d[0].platform, d[0].device_kind, len(d), jax.__version__]))"
)


def jobs(parts: list[str], small: bool, quick: bool) -> list[tuple[str, dict[str, Any]]]:
    """What to run, a process each, in the order of importance, so that the end of the time cuts the least."""
    found: list[tuple[str, dict[str, Any]]] = []
    rows = ROWS[:1] if quick else ROWS[:2] if small else ROWS
    if "peaks" in parts:
        found.append(("peaks", {}))
    if "round_trips" in parts:
        found += [(part, {"rows": each}) for each in rows for part in ("round_trips", "torch")]
    if quick:
        return found
    steps = STEPS[:1] if small else STEPS
    if "training" in parts:
        found += [
            ("training", {"name": name, "activations": activations, "batch": batch})
            for name, batch in steps
            for activations in ("float32", "bfloat16")
        ]
    if "forecast" in parts:
        found += [("forecast", {"name": "era5_1p5", "members": members}) for members in (1, 24)]
    return found


def in_process(part: str, small: bool, arguments: dict[str, Any], seconds: float) -> tuple[list[Row], str]:
    """The rows of a part, and what went wrong, if anything did."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    command = [sys.executable, "-m", "benchmarks.device_parts", part, "small" if small else "large"]
    command.append(json.dumps(arguments))
    fault = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=HERE.parent
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
            if process.returncode:
                fault = (errors.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            fault = "the time was over"
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")], fault


def with_peers(rows: list[Row]) -> list[Row]:
    """Rows of the JSON file: ours beside a peer or a bound of the same run."""
    values = {(row["part"], row["case"]): row["value"] for row in rows}
    peaks = {row["case"].split(", ")[-1]: row["value"] for row in rows if row["part"] == "peaks" and row["value"]}
    copy = next((value for name, value in peaks.items() if name.startswith("copy")), None)
    found = []

    def add(row: Row, peer: float, name: str) -> None:
        found.append(
            {
                "case": f"{row['part']}: {row['case']}",
                "ours": row["value"],
                "peer": peer,
                "peer_name": name,
                "ratio": peer / row["value"],
                "unit": row["unit"],
            }
        )

    for row in rows:
        if not row["value"]:
            continue
        peer = values.get(("torch-harmonics", row["case"])) if row["part"] == "round trips" else None
        if peer:
            add(row, peer, "torch-harmonics")
        if row["part"] == "round trips" and copy and "gradient" not in row["case"]:
            add(row, 1e3 * row["gigabytes"] / copy, "reading and writing field and spectrum once")
        if row["part"] == "training step" and "flops" in row and copy:
            rate = peaks.get("bfloat16" if "bfloat16" in row["case"] else "high") or peaks.get("highest")
            if rate:
                bound = max(row["flops"] / (1e12 * rate), row["bytes"] / (1e9 * copy))
                which = "operations" if row["flops"] / (1e12 * rate) >= bound else "bytes"
                add(row, 1e3 * bound, f"the shortest possible step, by {which}")
    return found


def page(rows: list[Row], faults: list[str], device: list[Any], command: str) -> str:
    """The tables, as Markdown."""
    name, kind, count, version = device
    lines = [
        "# Devices",
        "",
        f"{kind} ({name}, {count} of them, one used), {os.cpu_count()} CPUs, JAX {version}, Python "
        f"{platform.python_version()}. Command: `{command}`.",
    ]
    compared = with_peers(rows)
    for part in dict.fromkeys(row["part"] for row in rows):
        lines += ["", f"## {part.capitalize()}", "", "| case | value | unit | beside | |", "|---|---|---|---|---|"]
        for row in rows:
            if row["part"] != part:
                continue
            beside = "; ".join(
                f"{each['peer_name']}: {each['ratio']:.2f}"
                for each in compared
                if each["case"] == f"{row['part']}: {row['case']}"
            )
            value = "–" if row["value"] is None else f"{row['value']:.4g}"
            lines.append(f"| {row['case']} | {value} | {row['unit']} | {beside} | {row.get('note', '')} |")
    if faults:
        lines += ["", "## Not measured", "", *(f"- {fault}" for fault in faults)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--skip", default="", help="parts to leave out")
    parser.add_argument("--quick", action="store_true", help="peaks and the smallest transforms; writes no page")
    parser.add_argument("--seconds", type=float, default=BUDGET, help="after which nothing more is begun")
    arguments = parser.parse_args()
    wanted = [part for part in arguments.parts.split(",") if part not in arguments.skip.split(",")]
    unknown = {*wanted, *filter(None, arguments.skip.split(","))} - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}: choose of {', '.join(PARTS)}")
    device = json.loads(
        subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, check=True).stdout.splitlines()[
            -1
        ]
    )
    small = device[0] == "cpu"
    end = time.monotonic() + arguments.seconds
    rows: list[Row] = []
    faults: list[str] = []
    command = " ".join(["python", "benchmarks/device.py", *sys.argv[1:]])
    for part, given in jobs(wanted, small, arguments.quick):
        name = f"{part} {' '.join(str(value) for value in given.values())}".strip()
        left = end - time.monotonic()
        found, fault = in_process(part, small, given, left) if left > 5 else ([], "the time was over")
        rows += found
        if fault:
            faults.append(f"{name}: {fault}")
        for row in found:
            value = "–" if row["value"] is None else f"{row['value']:.4g}"
            print(f"{row['part']:16} {row['case']:64} {value:>10} {row['unit']:8} {row.get('note', '')}", flush=True)
        if fault:
            print(f"{name}: {fault}", file=sys.stderr, flush=True)
        if not arguments.quick:
            (HERE / "device.md").write_text(page(rows, faults, device, command))
        if arguments.json:
            arguments.json.write_text(json.dumps(with_peers(rows), indent=1))


if __name__ == "__main__":
    main()
