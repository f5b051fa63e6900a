"""Steps of the C++ side: the device tests, the plugin's own enqueue, and the sanitizers over a short part of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from gpu_kit.records import Log
from gpu_kit.steps import Settings

SHORT = "ShortDevice*"
"""The tests that are short enough to run under a sanitizer, a hundred times slower."""

SANITIZER_FOUND_ERRORS = 86
NO_SANITIZER = re.compile(r"Device not supported|not supported on this|Unable to find|requires a newer driver", re.I)


def device_tests(settings: Settings, log: Log) -> None:
    """``vimdeploy_device_tests``: every test by its name."""
    program = settings.built("vimdeploy_device_tests")
    if program is None:
        return log.skipped("vimdeploy_device_tests", "not built")
    report = settings.work / "device_tests.json"
    report.unlink(missing_ok=True)
    code = subprocess.run([program, f"--gtest_output=json:{report}"], check=False).returncode
    if not report.exists():
        return log.failed("vimdeploy_device_tests", f"ended with {code} before its end")
    for suite in json.loads(report.read_text())["testsuites"]:
        for test in suite["testsuite"]:
            name = f"{suite['name']}.{test['name']}"
            if test.get("failures"):
                log.failed(name, test["failures"][0]["failure"].replace("\n", " / ")[:600])
            elif test["result"] == "SKIPPED":
                log.skipped(name, "it skipped itself, the log says why")
            else:
                log.passed(name, seconds=float(test["time"].rstrip("s")))
    return None


def enqueue(settings: Settings, log: Log) -> None:
    """``check_tensorrt_enqueue``: the TensorRT plugin through its creator, without TensorRT."""
    program = settings.built("check_tensorrt_enqueue")
    if program is None:
        return log.skipped("check_tensorrt_enqueue", "not built: it wants TensorRT's headers, --tensorrt-root")
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    print(result.stdout, result.stderr)
    cases = result.stdout.count("\nok  ")
    if result.returncode == 0 and cases:
        return log.passed("check_tensorrt_enqueue", cases=float(cases))
    return log.failed(
        "check_tensorrt_enqueue", f"ended with {result.returncode}: {_tail(result.stdout + result.stderr)}"
    )


def memcheck(settings: Settings, log: Log) -> None:
    """Accesses out of bounds or misaligned."""
    _sanitize("memcheck", settings, log)


def racecheck(settings: Settings, log: Log) -> None:
    """Races in shared memory."""
    _sanitize("racecheck", settings, log)


def synccheck(settings: Settings, log: Log) -> None:
    """Barriers that not all threads reach."""
    _sanitize("synccheck", settings, log)


def initcheck(settings: Settings, log: Log) -> None:
    """Reads of memory that nothing wrote; the tests leave theirs unset for it."""
    _sanitize("initcheck", settings, log, VIMDEPLOY_LEAVE_MEMORY_UNSET="1")


def _sanitize(tool: str, settings: Settings, log: Log, **environment: str) -> None:
    program, sanitizer = settings.built("vimdeploy_device_tests"), _sanitizer()
    if program is None or sanitizer is None:
        return log.skipped(tool, "the tests were not built" if program is None else "compute-sanitizer was not found")
    result = subprocess.run(
        [
            sanitizer,
            "--tool",
            tool,
            "--error-exitcode",
            str(SANITIZER_FOUND_ERRORS),
            program,
            f"--gtest_filter={SHORT}",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    output = result.stdout + result.stderr
    print(output)
    return judge(tool, result.returncode, output, log)


def judge(tool: str, code: int, output: str, log: Log) -> None:
    """What compute-sanitizer's end means."""
    passed = re.search(r"\[  PASSED  \] (\d+) tests?", output)
    if code == 0 and passed and int(passed[1]) > 0:
        return log.passed(tool, tests=float(passed[1]))
    if refusal := NO_SANITIZER.search(output):
        return log.skipped(tool, f"compute-sanitizer does not work here: {refusal[0]}")
    return log.failed(tool, f"ended with {code}: {_tail(output)}")


def _sanitizer() -> str | None:
    beside_nvcc = Path(os.path.realpath(shutil.which("nvcc") or "nvcc")).parent / "compute-sanitizer"
    return shutil.which("compute-sanitizer") or (str(beside_nvcc) if beside_nvcc.exists() else None)


def _tail(output: str) -> str:
    return " / ".join(output.strip().splitlines()[-4:])
