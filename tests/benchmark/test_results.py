import dataclasses

import pytest

from vimdeploy.benchmark.measure import Series
from vimdeploy.benchmark.results import EAGER, drift_of, explanations, percentile, results_of
from vimdeploy.benchmark.sources import Subject

FACTS = {
    "load_seconds": 0.5,
    "loaded_bytes": 10,
    "memory_method": "as counted",
    "image_size": [32, 48],
    "task": "pyramid",
    "device": "cpu",
    "operators": "library",
    "precision": "fp32",
}


def series(tmp_path, name, milliseconds, error="", batch=2):
    subject = Subject(name, tmp_path, batch, image_size=(64, 64) if error else None)
    return Series(subject, {} if error else FACTS, [[call] for call in milliseconds], peak_bytes=99, error=error)


def test_numbers_of_one(tmp_path):
    (row,) = results_of([series(tmp_path, "a", [4.0, 1.0, 2.0, 3.0, 100.0])])
    assert (row.p50_ms, row.p90_ms, row.p99_ms, row.calls) == (3, 100, 100, 5)
    assert row.images_per_second == pytest.approx(2 / 3e-3)
    assert (row.ratio, row.image_size, row.peak_bytes, row.error) == (1, (32, 48), 99, "")
    assert row.task == "pyramid"


def test_ratios_are_to_the_first(tmp_path):
    rows = results_of([series(tmp_path, "a", [2.0]), series(tmp_path, "b", [3.0]), series(tmp_path, "c", [1.0])])
    assert [row.ratio for row in rows] == [1, 1.5, 0.5]


def test_no_ratio_if_the_first_failed(tmp_path):
    first, second = results_of([series(tmp_path, "a", [2.0], "It is bad."), series(tmp_path, "b", [3.0])])
    assert (first.error, first.p50_ms, first.ratio, first.image_size) == ("It is bad.", None, None, (64, 64))
    assert (second.p50_ms, second.ratio) == (3, None)


def test_no_ratio_between_image_sizes(tmp_path):
    other = series(tmp_path, "b", [3.0])
    other.facts = FACTS | {"image_size": [64, 64]}
    assert [row.ratio for row in results_of([series(tmp_path, "a", [2.0]), other])] == [1, None]


def test_what_had_no_turn_is_left_out(tmp_path):
    assert [row.artifact for row in results_of([series(tmp_path, "a", [1.0]), series(tmp_path, "b", [])])] == ["a"]
    assert results_of([]) == []


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 50), (90, 90), (99, 99), (99.5, 100), (100, 100)])
def test_percentiles_are_values_that_were_measured(percent, value):
    assert percentile(range(100, 0, -1), percent) == value


def test_no_image_size_is_a_row_too(tmp_path):
    made = series(tmp_path, "a", [2.0])
    made.facts = FACTS | {"image_size": None}
    (row,) = results_of([made])
    assert (row.image_size, row.ratio) == (None, 1)


@pytest.mark.parametrize(
    ("turns", "drift"),
    [
        ([[4.0]] * 3, 0),
        ([[4.0, 4.0, 9.0], [7.0], [5.0]], 0.25),
        ([[4.0], [4.0], [1.0], [1.0], [3.0], [3.0], [3.0]], -0.25),
        ([[4.0], [5.0]], None),
        ([], None),
    ],
)
def test_drift_is_from_the_first_third_of_the_turns_to_the_last(turns, drift):
    assert drift_of(turns) == drift


class TestDriftIsTold:
    def told(self, results):
        return [sentence for sentence in explanations(results) if "drifted" in sentence]

    @pytest.mark.parametrize("last", [5.0, 3.0])
    def test_beyond_a_fifth(self, tmp_path, last):
        assert self.told(results_of([series(tmp_path, "a.onnx", [4.0, 4.0, last])])) == [
            "a.onnx's times drifted by 25 % during the run; close other programs or raise --rounds."
        ]

    @pytest.mark.parametrize("last", [4.7, 3.3])
    def test_not_below(self, tmp_path, last):
        assert self.told(results_of([series(tmp_path, "a.onnx", [4.0, 4.0, last])])) == []

    def test_for_the_row_that_it_is_of(self, tmp_path):
        rows = results_of([series(tmp_path, "a.onnx", [4.0] * 3)])
        rows += results_of([series(tmp_path, "a.onnx", [4.0, 4.0, 8.0], batch=8)])
        (sentence,) = self.told(rows)
        assert sentence.startswith("a.onnx (32x48, batch 8)'s times drifted by 100 %")

    def test_of_no_row_that_failed(self, tmp_path):
        assert self.told(results_of([series(tmp_path, "a.onnx", [4.0, 4.0, 8.0], "It is weak.")])) == []


def test_explanations_tell_of_pytorch_if_it_ran(tmp_path):
    rows = results_of([series(tmp_path, "a", [1.0])])
    assert EAGER not in explanations(rows)
    assert EAGER in explanations([*rows, dataclasses.replace(rows[0], operators="eager")])


def test_explanations_tell_how_memory_was_counted(tmp_path):
    rows = results_of([series(tmp_path, "a", [1.0]), series(tmp_path, "b", [1.0])])
    assert sum("as counted" in sentence for sentence in explanations(rows)) == 1
    assert not any("{" in sentence for sentence in explanations(rows))
