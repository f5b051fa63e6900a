import ctypes
import sys

import pytest

from vimdeploy.benchmark import memory
from vimdeploy.runtimes.free_memory import give_back_free_memory

MEGABYTE = 1 << 20


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc alone keeps free pages"
)
def test_what_lies_below_a_used_block_is_given_back():
    blocks = [bytes([1]) * (MEGABYTE >> 4) for _ in range(64 << 4)]
    last = blocks[-1]
    del blocks
    before = memory.resident_bytes()
    give_back_free_memory()
    assert before - memory.resident_bytes() > 50 * MEGABYTE
    assert last[-1] == 1


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_not_asked(monkeypatch, platform):
    def never(name):
        raise AssertionError

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", never)
    give_back_free_memory()
