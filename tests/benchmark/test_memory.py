"""The memory of a process, and the device memory of a subject on a stand-in for the driver's count."""

import io
import json
import os
import sys

import numpy as np
import pytest
from helpers.answers import Answers

from vimdeploy.benchmark import memory, worker
from vimdeploy.benchmark.memory import ON_GPU, DeviceMemory
from vimdeploy.benchmark.sources import Settings, Subject
from vimdeploy.errors import ConfigError

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
    monkeypatch.setattr(memory, "status_bytes", lambda field: None)
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "clear_refs")
    assert memory.forget_peak() == memory.WHOLE_LIFE
    assert memory.peak_bytes() == memory.resident_bytes() > 10 * MEGABYTE


@pytest.fixture
def in_use(monkeypatch):
    """The bytes in use on the device, as a list of one number to change."""
    bytes_ = [1000]
    monkeypatch.setattr(memory, "memory_in_use", lambda gpu: bytes_[0])
    return bytes_


@pytest.fixture
def no_gpu(monkeypatch):
    def none(gpu):
        raise ConfigError("none")

    monkeypatch.setattr(memory, "memory_in_use", none)


class TestDeviceMemory:
    def test_only_its_own_steps_are_counted(self, in_use):
        device = DeviceMemory(gpu=0)
        with device.counted():
            in_use[0] += 50
        in_use[0] += 7000  # a neighbour loads
        for _ in range(2):
            with device.counted():
                in_use[0] += 10
        assert device.taken == 70

    def test_nothing_is_counted_if_it_is_not_wanted(self, in_use):
        device = DeviceMemory(gpu=None)
        with device.counted():
            in_use[0] += 50
        assert device.taken is None

    def test_nothing_is_counted_without_a_gpu(self, no_gpu):
        device = DeviceMemory(gpu=0)
        with device.counted():
            pass
        assert device.taken is None


class TestWorker:
    @pytest.fixture
    def answers(self, monkeypatch, in_use, tmp_path):
        """``answers(device)`` -> what is said of a subject that takes 300 bytes to load and 40 in its only turn."""

        class Hungry(Answers):
            def run(self, inputs):
                in_use[0] += 40

        def serve(device):
            def open_session(subject, settings):
                in_use[0] += 300
                session = Hungry([[0.0, 1.0, 2.0]], operators="plugin", precision="fp16")
                session.device = device
                return session

            monkeypatch.setattr(worker, "open_session", open_session)
            monkeypatch.setattr("os.getppid", os.getpid)  # this process gives the orders and obeys them
            first = worker.order(Subject("tiny", tmp_path / "tiny.engine"), Settings())
            out = io.StringIO()
            worker._serve(io.StringIO(f'{json.dumps(first)}\n{{"calls": 1}}\n'), out)
            return [json.loads(line) for line in out.getvalue().splitlines()]

        return serve

    def test_tells_device_memory_of_what_runs_on_a_gpu(self, answers):
        loaded, turn = answers("cuda")
        assert (loaded["loaded_bytes"], turn["peak_bytes"], loaded["memory_method"]) == (300, 340, ON_GPU)

    def test_tells_resident_memory_of_what_runs_on_the_cpu(self, answers):
        loaded, turn = answers("cpu")
        assert loaded["memory_method"].startswith("resident memory")
        assert turn["peak_bytes"] != 340

    def test_tells_none_if_the_gpu_tells_nothing(self, answers, no_gpu):
        loaded, turn = answers("cuda")
        assert (loaded["loaded_bytes"], turn["peak_bytes"]) == (None, None)
