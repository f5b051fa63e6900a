"""What stops ONNX Runtime, and what lets it run again."""

import numpy as np
import pytest

from vimdeploy.errors import ExecutionError
from vimdeploy.runtimes.load import load
from vimdeploy.runtimes.runs import allow_runs, stop_runs


@pytest.fixture
def stopped():
    stop_runs()
    yield
    allow_runs()


def test_nothing_runs_once_it_is_stopped(tiny_onnx, stopped):
    session = load(tiny_onnx)
    for _ in range(2):
        with pytest.raises(ExecutionError, match="terminate"):
            session.run(np.zeros((1, 3, 32, 32), np.float32))


def test_runs_again_once_it_is_allowed(tiny_onnx, stopped):
    allow_runs()
    assert load(tiny_onnx).run(np.zeros((1, 3, 32, 32), np.float32))
