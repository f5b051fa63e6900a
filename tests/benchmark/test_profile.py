import dataclasses
import json

import numpy as np
import pytest

from vimdeploy.benchmark.process import Worker
from vimdeploy.benchmark.profile import OperatorTime, operator_times, profile_of
from vimdeploy.benchmark.sources import Subject
from vimdeploy.errors import ExecutionError


def run(ts):
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": 90}


def node(ts, operator, microseconds, what="_kernel_time"):
    return {
        "cat": "Node",
        "name": f"layer.{operator}{what}",
        "ts": ts,
        "dur": microseconds,
        "args": {"op_name": operator},
    }


def test_events_become_the_mean_of_the_calls_that_count():
    events = [
        run(0),
        node(10, "MatMul", 7000),
        run(100),
        node(110, "Add", 500),
        node(120, "MatMul", 3000),
        node(130, "MatMul", 1000, "_fence_before"),
        run(200),
        node(210, "Add", 1500),
        node(220, "MatMul", 5000),
        node(230, "MatMul", 2000),
    ]
    assert operator_times(events) == [
        OperatorTime("MatMul", nodes=1.5, milliseconds=5.0, share=10 / 12),
        OperatorTime("Add", nodes=1.0, milliseconds=1.0, share=2 / 12),
    ]


def test_no_events_are_no_rows():
    assert operator_times([]) == []
    assert operator_times([run(0), node(10, "Add", 1)]) == []


def zeros(*shape):
    return {"images": np.zeros(shape, np.float32)}


def test_our_operators_are_rows_of_their_own(tiny_artifact, quick):
    rows = {row.operator: row for row in profile_of(tiny_artifact, quick, zeros(2, 3, 32, 32))}
    assert rows["BidirectionalSelectiveScan"].nodes == rows["BidirectionalConv1d"].nodes == 2
    assert sum(row.share for row in rows.values()) == pytest.approx(1)


@pytest.mark.parametrize("spelling", ["function-body", "function body"])
def test_function_bodies_are_the_nodes_in_them(tiny_artifact, quick, spelling):
    settings = dataclasses.replace(quick, operators=spelling)
    rows = profile_of(tiny_artifact, settings, zeros(1, 3, 32, 32))
    assert not any(row.operator.startswith("Bidirectional") for row in rows)


def test_no_file_of_the_profiler_stays(tiny_artifact, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    profile_of(tiny_artifact, quick, zeros(1, 3, 32, 32))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_run(tiny_artifact, quick):
    with pytest.raises(ExecutionError, match=r"ONNX Runtime failed on images \(1, 3, 8, 8\): "):
        profile_of(tiny_artifact, quick, zeros(1, 3, 8, 8))


def test_a_profile_that_was_cut_short(tiny_artifact, quick, monkeypatch):
    monkeypatch.setattr("vimdeploy.benchmark.profile.json.loads", lambda text: json.JSONDecoder().decode(text[:99]))
    with pytest.raises(ExecutionError, match=r"has not written its profile to .*; is there space"):
        profile_of(tiny_artifact, quick, zeros(1, 3, 32, 32))


def test_a_worker_answers_with_the_rows(classifier, quick):
    with Worker(Subject("foreign", classifier()), quick) as worker:
        (row,) = worker.profile()
    assert (row.operator, row.nodes, row.share) == ("ReduceMean", 1, 1)
