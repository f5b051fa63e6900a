"""The loops that benchmarks/eager.py measures compute the same."""

import pytest
import torch
from click.testing import CliRunner
from helpers.loading import script

from vimdeploy.ops.contract import FLOAT_TYPES

eager = script("benchmarks/eager.py")
SIZE = 2, 9, 6, 3


@pytest.mark.parametrize("name", FLOAT_TYPES)
def test_the_three_agree(name):
    inputs = eager.in_type(eager.inputs_of(*SIZE), name)
    wanted = eager.selective_scan_ref(*inputs)
    bound = max(1e-5, 2 * torch.finfo(wanted.dtype).eps)
    for function in (eager.our_loop, eager.ours):
        torch.testing.assert_close(function(*inputs), wanted, rtol=bound, atol=bound)


def test_prints_a_line_for_each_size_and_type(monkeypatch):
    monkeypatch.setattr(eager, "SIZES", (SIZE,))
    threads = torch.get_num_threads()
    try:
        printed = CliRunner().invoke(eager.main, ["--rounds", "1"], catch_exceptions=False).output.splitlines()
    finally:
        torch.set_num_threads(threads)
    assert [line.split()[:5] for line in printed[2:]] == [[*map(str, SIZE), name] for name in FLOAT_TYPES]
