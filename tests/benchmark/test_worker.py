"""The process that measures, and its parent's side of it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vimdeploy.benchmark.process import WORKER, Worker
from vimdeploy.benchmark.sources import Subject
from vimdeploy.benchmark.worker import order
from vimdeploy.errors import ExecutionError


@pytest.fixture
def worker(tiny_onnx, quick):
    with Worker(Subject("tiny", tiny_onnx), quick) as worker:
        yield worker


def test_tells_what_it_loaded(worker):
    facts = worker.facts
    assert facts["load_seconds"] > 0
    assert facts["loaded_bytes"] >= 0
    assert (facts["image_size"], facts["device"], facts["precision"]) == ([32, 32], "cpu", "fp32")
    assert facts["task"] == "classification"


def test_a_turn_of_calls(worker):
    milliseconds, peak = worker.turn(calls=3)
    assert len(milliseconds) == 3
    assert min(milliseconds) > 0
    assert peak > 0


def test_a_turn_of_time_has_one_call_at_least(worker):
    assert len(worker.turn(seconds=0)[0]) == 1
    assert len(worker.turn(seconds=0.05)[0]) > 1


def test_a_foreign_classifier(classifier, quick):
    with Worker(Subject("foreign", classifier(), batch=2), quick) as worker:
        assert len(worker.turn(calls=2)[0]) == 2


@pytest.mark.slow
def test_eager_pytorch(tiny_pth, tiny_json, quick):
    settings = dataclasses.replace(quick, variant=str(tiny_json))
    with Worker(Subject("tiny", tiny_pth), settings) as worker:
        assert worker.facts["operators"] == "eager"
        milliseconds, peak = worker.turn(calls=2)
    assert len(milliseconds) == 2
    assert peak > 0


def test_its_end_is_waited_for(tiny_onnx, quick):
    with Worker(Subject("tiny", tiny_onnx), quick) as worker:
        process = worker._process
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_eager_pytorch_with_random_weights(tiny_onnx, tiny_info, quick):
    with Worker(Subject("tiny", tiny_onnx, model=tiny_info), quick) as worker:
        assert (worker.facts["operators"], worker.facts["image_size"]) == ("eager", [32, 32])
        assert len(worker.turn(calls=2)[0]) == 2


def test_a_missing_file_is_told(tmp_path, quick):
    with pytest.raises(ExecutionError, match=r"none\.onnx cannot be read: No such file"):
        Worker(Subject("none", tmp_path / "none.onnx"), quick)


def test_its_sentence_is_the_parents(tiny_onnx, quick):
    with pytest.raises(ExecutionError, match="Wanted an image height of 64"):
        Worker(Subject("tiny", tiny_onnx, image_size=(64, 64)), quick)


def test_a_killed_process_is_told(worker):
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(ExecutionError, match="was killed, as the system does when memory runs out"):
        worker.turn(calls=1)


def test_a_crash_is_told(worker):
    os.kill(worker._process.pid, signal.SIGSEGV)
    with pytest.raises(ExecutionError, match="ended by signal 11"):
        worker.turn(calls=1)


def test_a_mistake_of_ours_is_told(worker):
    with pytest.raises(ExecutionError, match="ended with code 1; what it said stands on standard error"):
        worker.turn(miles=1)


@pytest.mark.parametrize("orders", [0, 1])
def test_ends_when_its_input_ends(tiny_onnx, quick, orders):
    line = json.dumps(order(Subject("tiny", tiny_onnx), quick)) + "\n"
    command = [sys.executable, "-c", WORKER.format(path=sys.path)]
    result = subprocess.run(command, input=line * orders, capture_output=True, text=True, timeout=60)
    assert (result.returncode, len(result.stdout.splitlines()), result.stderr) == (0, orders, "")


ABANDONED = """
import sys
from pathlib import Path
from vimdeploy.benchmark.process import Worker
from vimdeploy.benchmark.sources import Settings, Subject
worker = Worker(Subject("tiny", Path(sys.argv[1])), Settings(device="cpu", threads=1))
print(worker._process.pid, flush=True)
worker.turn(seconds=3000)
"""


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="this system does not show its processes as Linux does"
)
def test_it_ends_in_the_middle_of_a_turn_if_its_parent_is_killed(tiny_onnx):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", ABANDONED, tiny_onnx], stdout=subprocess.PIPE, env=environment
    ) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    for _ in range(600):
        try:
            state = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker went on without its parent")
