import re
from pathlib import Path

import pytest
from scan_costs.hot_path import NoSuchPathError, Work, shortest_cost
from scan_costs.machine_code import ToolMissingError, find_nvcc, find_nvdisasm, functions_of
from scan_costs.scan_kernels import scan_kernels, table_of

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
COSTS = PLUGINS / "scan" / "cuda" / "kernel_costs.h"
VIM = ("gated", "float16")
ARCHITECTURE = 90
"""One that has all of the kernels; tools/scan_costs counts the others."""

LOOP = """
.text.kernel:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   ISETP.GE.AND P0, PT, R2, 0x8, PT ;
        /*0020*/               @P0 BRA `(.L_x_1) ;
        /*0030*/                   ISETP.GE.AND P1, PT, R2, 0x1, PT ;
        /*0040*/               @P1 LDG.E.U16 R4, desc[UR4][R6.64] ;
        /*0050*/                   BRA `(.L_x_2) ;
.L_x_1:
        /*0060*/                   LDG.E.U16 R4, desc[UR4][R6.64] ;
.L_x_2:
        /*0070*/                   BSYNC B0 ;
.L_x_3:
        /*0080*/                   LDS.128 R8, [R2] ;
        /*0090*/                   LDS R12, [R3] ;
        /*00a0*/                   FFMA R5, R8, R12, R5 ;
        /*00b0*/              @!P2 BRA `(.L_x_3) ;
        /*00c0*/                   MUFU.EX2 R5, R5 ;
        /*00d0*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00e0*/               @P3 BRA `(.L_x_0) ;
        /*00f0*/                   EXIT ;
"""


def loop_blocks():
    return functions_of(LOOP)["kernel"]


def test_the_path_is_the_one_that_does_the_work_with_the_fewest_instructions():
    """Three times round the inner loop, and past the block of a tile that is not full."""
    cost = shortest_cost(loop_blocks(), Work(special=1, loads=1, stores=0, sum_loads=0, sum_stores=0, shared_loads=6))
    assert cost.issued == 1 + 2 + 1 + 1 + 3 * 4 + 2
    assert (cost.float32, cost.special) == (3, 8)
    assert (cost.shared, cost.shared_unpacked) == (3 * (2 + 1), 3 * (4 + 1))


def test_work_that_no_path_does_is_an_error():
    with pytest.raises(NoSuchPathError, match="special=2"):
        shortest_cost(loop_blocks(), Work(special=2, loads=1, stores=0, sum_loads=0, sum_stores=0, shared_loads=6))


def numbers(row):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", row.partition("Form::")[2])]


@pytest.mark.slow
def test_the_planner_uses_what_is_counted_in_the_compiled_kernels():
    """The kernels are Vim's; other compilers may schedule a few instructions more or less."""
    try:
        find_nvcc(), find_nvdisasm()
    except ToolMissingError as error:
        pytest.skip(str(error))
    kernels = [kernel for kernel in scan_kernels(PLUGINS, ARCHITECTURE) if (kernel.form, kernel.type) == VIM]
    assert all(kernel.kernel.spill_bytes == 0 for kernel in kernels)
    written = COSTS.read_text().splitlines()
    rows = table_of(kernels)
    assert {re.match(r"{Walk::(\w+)", row)[1] for row in rows} == {"output", "cluster", "summary"}
    for row in rows:
        kind = row.partition(", {")[0]
        [known] = [line for line in written if line.strip().startswith(kind)]
        assert numbers(row) == pytest.approx(numbers(known), rel=0.04, abs=1.5), row
