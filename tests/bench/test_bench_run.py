import sys
from pathlib import Path

import pytest

from vimdeploy.bench.run import run
from vimdeploy.bench.sources import Source


@pytest.fixture
def measured(monkeypatch):
    """What came to be measured: for each group its sizes, batches, errors, and which of its files were there."""
    measured = []

    def note(group, settings, report):
        measured.append([(s.subject.image_size, s.subject.batch, s.error, s.subject.path.is_file()) for s in group])
        report(1, 1)

    monkeypatch.setattr("vimdeploy.bench.run.measure", note)
    return measured


def test_sizes_come_before_batches(measured, tiny_onnx, quick):
    groups = []
    run([Source("a", tiny_onnx)], [(32, 32), (8, 8)], [4, 1], quick, groups, lambda *_: None)
    assert [group[0][:2] for group in measured] == [((32, 32), 4), ((32, 32), 1), ((8, 8), 4), ((8, 8), 1)]
    assert len(groups) == 4


def test_no_size_is_each_ones_own(measured, tiny_onnx, quick):
    run([Source("a", tiny_onnx)], [], [1], quick, [], lambda *_: None)
    assert measured == [[(None, 1, "", True)]]


def test_models_are_exported_at_every_size(measured, tiny_json, quick):
    groups = []
    run([Source("a", model=str(tiny_json))], [(32, 32), (33, 32), (8, 16)], [1], quick, groups, lambda *_: None)
    (good,), (bad,), (other,) = measured
    assert (good[2:], other[2:]) == (("", True), ("", True))
    assert bad[3] is False
    assert bad[2].startswith("Patches of 8 pixels every 8 do not divide an image height of 33")


def test_eager_is_a_description_at_every_size(measured, tiny_onnx, quick):
    run(
        [Source("a", tiny_onnx), Source("b", tiny_onnx, eager=True)],
        [(32, 32), (8, 8)],
        [1],
        quick,
        [],
        lambda *_: None,
    )
    assert [group[1] for group in measured] == [((32, 32), 1, "", True), ((8, 8), 1, "", True)]


def test_exported_files_are_removed(measured, tiny_json, quick):
    groups = []
    run([Source("a", model=str(tiny_json))], [], [1, 2], quick, groups, lambda *_: None)
    assert measured == [[(None, 1, "", True)], [(None, 2, "", True)]]
    assert not Path(groups[0][0].subject.path).parent.exists()


def test_without_torch_files_still_run(measured, tiny_onnx, quick, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    run([Source("a", tiny_onnx), Source("b", model="deit_tiny")], [], [1], quick, [], lambda *_: None)
    ((file, baseline),) = measured
    assert file[2:] == ("", True)
    assert "install it with: pip install 'vimdeploy[export]'" in baseline[2]


def test_progress_names_the_phase(measured, tiny_onnx, quick):
    reports = []
    run([Source("a", tiny_onnx)], [(32, 48)], [2], quick, [], lambda *report: reports.append(report))
    assert reports == [("Exporting, 32x48", 0, 1), ("Exporting, 32x48", 1, 1), ("Measuring, 32x48, batch 2", 1, 1)]
