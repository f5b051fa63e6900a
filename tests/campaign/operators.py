"""The door of the compiled operators: a driver in C++ under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from campaign.seeds import Files

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build" / "fuzz_operators"
DRIVER = BUILD / "tests" / "vimdeploy_fuzz_operators"
NODES = 5000
"""Hostile nodes of one trial."""


class SanitizerError(Exception):
    """What a sanitizer said of the operators."""


def build() -> str:
    """Build the driver, which takes minutes the first time; returns why it cannot be built, empty if it can."""
    options = {"BUILD_TESTS": "ON", "SANITIZE": "address,undefined", "TENSORRT": "OFF", "DEPS_DIR": "build/deps"}
    if not (REPOSITORY / options["DEPS_DIR"]).is_dir():
        del options["DEPS_DIR"]
    defined = [f"-DVIMDEPLOY_{name}={REPOSITORY / value if '/' in value else value}" for name, value in options.items()]
    steps = [
        ["cmake", "-S", REPOSITORY / "plugins", "-B", BUILD, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", *defined],
        ["cmake", "--build", BUILD, "--parallel", "2", "--target", DRIVER.name],
    ]
    for step in steps:
        try:
            subprocess.run(step, capture_output=True, text=True, check=True)
        except OSError as error:
            return f"{error.filename} cannot be started"
        except subprocess.CalledProcessError as error:
            return f"the driver cannot be built: {(error.stderr or error.stdout).strip()[-500:]}"
    return ""


def operators_files() -> SearchStrategy[Files]:
    """A seed, which stands for ``NODES`` nodes."""
    return st.integers(0, 2**31 - 1).map(lambda seed: {"seed": str(seed).encode()})


def enter_operators(folder: Path) -> None:
    """Let the driver try them."""
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limits[1], limits[1]))  # the sanitizer maps terabytes, and uses few
    try:
        command = [DRIVER, str(NODES), (folder / "seed").read_text(), folder / "node"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
    if result.returncode:
        node = (folder / "node").read_bytes().hex()
        raise SanitizerError(f"exit code {result.returncode}, of the node {node}:\n{result.stderr[-6000:]}")
