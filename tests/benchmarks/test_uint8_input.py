"""benchmarks/uint8_input.py prints what it says."""

import pytest
from click.testing import CliRunner
from helpers.loading import script

uint8_input = script("benchmarks/uint8_input.py")


@pytest.mark.slow
def test_prints_both_files_and_their_ratios(tiny_json):
    command = [str(tiny_json), "--threads", "1", "--rounds", "2"]
    printed = CliRunner().invoke(uint8_input.main, command, catch_exceptions=False).output.splitlines()
    floats, ours = (
        next(line.split() for line in printed if line.startswith(f"{name} ")) for name in ("float32", "uint8")
    )
    assert (floats[3], ours[3]) == (f"{3 * 32 * 32 * 4:,}", f"{3 * 32 * 32:,}")
    assert all(float(line[1]) < 1e-4 for line in (floats, ours))
    assert 0 < int(ours[2].replace(",", "")) - int(floats[2].replace(",", "")) < 2000
    assert printed[-1] == "Outputs for the same pictures differ by 0.0e+00 at most."
