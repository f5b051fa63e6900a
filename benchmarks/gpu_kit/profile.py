"""Step ncu: Nsight Compute over one launch of the scan's output kernel, which says what bounds it."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from gpu_kit.kernels import Kernels, empty_workspace
from gpu_kit.problems import problem_of, scan_operands
from gpu_kit.records import Log
from gpu_kit.steps import Settings

BATCH = 128
TOLD = {
    "Duration": "time of the launch",
    "Registers Per Thread": "registers",
    "Issue Slots Busy": "issue slots",
    "Executed Ipc Active": "instructions a clock",
    "Achieved Active Warps Per SM": "warps",
    "Mem Pipes Busy": "shared memory and L1",
    "Mem Busy": "memory",
    "DRAM Throughput": "DRAM",
    "L2 Hit Rate": "L2 hits",
}
"""The report's words for what is told here; the report has all else."""
NOT_ALLOWED = re.compile(r"ERR_NVGPUCTRPERM|not supported on the target|No kernels were profiled", re.I)


def profile(settings: Settings, log: Log) -> None:
    """One launch at Vim-Ti 128 x 197, FP16, after one to warm up, at the clocks as they are; the report is kept."""
    library, ncu = settings.built("libvimdeploy_gpu_bench.so"), _ncu()
    if library is None or ncu is None:
        return log.skipped("ncu", "ncu was not found" if library else "the build made no libvimdeploy_gpu_bench.so")
    report = settings.output / "selective_scan_output.ncu-rep"
    report.parent.mkdir(parents=True, exist_ok=True)
    command = [ncu, "--clock-control", "none", "--set", "full", "--export", str(report), "--force-overwrite"]
    command += ["--kernel-name", "regex:selective_scan_output", "--launch-skip", "1", "--launch-count", "1"]
    program = [sys.executable, "-m", "gpu_kit.profile", str(library), str(settings.seed)]
    result = subprocess.run([*command, *program], capture_output=True, text=True, check=False)
    print(result.stdout, result.stderr)
    output = result.stdout + result.stderr
    if refusal := NOT_ALLOWED.search(output):
        return log.skipped("ncu", f"ncu does not work here: {refusal[0]}")
    if result.returncode or not report.exists():
        tail = " / ".join(output.strip().splitlines()[-3:])
        return log.failed("ncu", f"ended with {result.returncode}: {tail}")
    details = subprocess.run(
        [ncu, "--import", str(report), "--page", "details", "--csv"], capture_output=True, text=True, check=True
    )
    values = told(details.stdout)
    return log.measured(f"selective_scan_output Vim-Ti {BATCH} x 197", **values, report=report.name)


def told(page: str) -> dict[str, str]:
    """What the details page of a report, as CSV, says of ``TOLD``, with units."""
    lines = page.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    found = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        name = TOLD.get(row.get("Metric Name") or "")
        if name and name not in found:
            found[name] = f"{row['Metric Value']} {row['Metric Unit']}".strip()
    return found


def main(library: str, seed: str) -> None:
    """In the process that is profiled: two launches."""
    own, problem = Kernels(Path(library)), problem_of("Vim-Ti", BATCH)
    operands = scan_operands(problem, torch.float16, torch.Generator("cuda").manual_seed(int(seed)))
    workspace = empty_workspace(own.plan(problem, torch.float16).workspace_bytes)
    y = torch.empty_like(operands.u[0])
    for _ in range(2):
        own.selective_scan(problem, operands, workspace, y)
    torch.cuda.synchronize()


def _ncu() -> str | None:
    beside_nvcc = Path(os.path.realpath(shutil.which("nvcc") or "nvcc")).parent / "ncu"
    return shutil.which("ncu") or (str(beside_nvcc) if beside_nvcc.exists() else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
