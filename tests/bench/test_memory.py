import sys

import numpy as np
import pytest

from vimdeploy.bench import memory

MEGABYTE = 1 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells and resets these numbers")
class TestOnLinux:
    def test_a_large_array_is_seen_while_it_lives(self):
        before = memory.resident_bytes()
        array = np.ones(64 * MEGABYTE, np.uint8)
        assert memory.resident_bytes() - before > 60 * MEGABYTE
        del array
        assert memory.resident_bytes() - before < 4 * MEGABYTE

    def test_the_peak_is_kept_until_it_is_forgotten(self):
        array = np.ones(64 * MEGABYTE, np.uint8)
        with_array = memory.resident_bytes()
        del array
        assert memory.peak_bytes() > with_array - 4 * MEGABYTE
        if memory.forget_peak() != memory.RESET:
            pytest.skip("this system does not let a process reset its peak")
        assert memory.peak_bytes() < with_array - 60 * MEGABYTE


def test_other_systems_tell_the_peak_of_the_whole_life(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none" / "status")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "clear_refs")
    assert memory.forget_peak() == memory.WHOLE_LIFE
    assert memory.peak_bytes() == memory.resident_bytes() > 10 * MEGABYTE
