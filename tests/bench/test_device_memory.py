"""The device memory of a subject, on a stand-in for the driver's count."""

import io
import json

import numpy as np
import pytest

from vimdeploy.bench import device_memory, worker
from vimdeploy.bench.device_memory import METHOD, DeviceMemory
from vimdeploy.bench.opened import Opened
from vimdeploy.bench.subjects import Settings, Subject
from vimdeploy.errors import ConfigError


@pytest.fixture
def in_use(monkeypatch):
    """The bytes in use, as a list of one number to change."""
    bytes_ = [1000]
    monkeypatch.setattr(device_memory, "memory_in_use", lambda: bytes_[0])
    return bytes_


@pytest.fixture
def no_gpu(monkeypatch):
    def none():
        raise ConfigError("none")

    monkeypatch.setattr(device_memory, "memory_in_use", none)


def test_only_its_own_steps_are_counted(in_use):
    memory = DeviceMemory(wanted=True)
    with memory.counted():
        in_use[0] += 50
    in_use[0] += 7000  # a neighbour loads
    for _ in range(2):
        with memory.counted():
            in_use[0] += 10
    assert memory.taken == 70


def test_nothing_is_counted_where_it_is_not_wanted(in_use):
    memory = DeviceMemory(wanted=False)
    with memory.counted():
        in_use[0] += 50
    assert memory.taken is None


def test_nothing_is_counted_without_a_gpu(no_gpu):
    memory = DeviceMemory(wanted=True)
    with memory.counted():
        pass
    assert memory.taken is None


class TestWorker:
    @pytest.fixture
    def answers(self, monkeypatch, in_use, tmp_path):
        """``answers(device)`` -> what is said of a subject that takes 300 bytes to load and 40 in its only turn."""

        def serve(device):
            def run(array):
                in_use[0] += 40

            def open_subject(subject, kind, settings):
                in_use[0] += 300
                return Opened(run, (1, 3, 8, 8), np.float32, (8, 8), device, "plugin", "fp16")

            monkeypatch.setattr(worker, "open_subject", open_subject)
            first = worker.order(Subject("tiny", tmp_path / "tiny.engine"), "engine", Settings())
            out = io.StringIO()
            worker._serve(io.StringIO(f'{json.dumps(first)}\n{{"calls": 1}}\n'), out)
            return [json.loads(line) for line in out.getvalue().splitlines()]

        return serve

    def test_tells_device_memory_of_what_runs_on_a_gpu(self, answers):
        loaded, turn = answers("cuda")
        assert (loaded["loaded_bytes"], turn["peak_bytes"], loaded["memory_method"]) == (300, 340, METHOD)

    def test_tells_resident_memory_of_what_runs_on_the_cpu(self, answers):
        loaded, turn = answers("cpu")
        assert loaded["memory_method"].startswith("resident memory")
        assert turn["peak_bytes"] != 340

    def test_tells_none_where_the_gpu_tells_nothing(self, answers, no_gpu):
        loaded, turn = answers("cuda")
        assert (loaded["loaded_bytes"], turn["peak_bytes"]) == (None, None)
