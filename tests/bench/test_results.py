import dataclasses

import pytest

from vimdeploy.bench.measure import Series
from vimdeploy.bench.results import EAGER, explanations, percentile, results_of
from vimdeploy.bench.subjects import Subject

FACTS = {
    "load_seconds": 0.5,
    "loaded_bytes": 10,
    "memory_method": "as counted",
    "image_size": [32, 48],
    "device": "cpu",
    "operators": "library",
    "precision": "fp32",
}


def series(tmp_path, name, milliseconds, error="", batch=2):
    subject = Subject(name, tmp_path, batch, image_size=(64, 64) if error else None)
    return Series(subject, {} if error else FACTS, milliseconds, peak_bytes=99, error=error)


def test_numbers_of_one(tmp_path):
    (row,) = results_of([series(tmp_path, "a", [4.0, 1.0, 2.0, 3.0, 100.0])])
    assert (row.p50_ms, row.p90_ms, row.p99_ms, row.calls) == (3, 100, 100, 5)
    assert row.images_per_second == pytest.approx(2 / 3e-3)
    assert (row.ratio, row.image_size, row.peak_bytes, row.error) == (1, (32, 48), 99, "")


def test_ratios_are_to_the_first(tmp_path):
    rows = results_of([series(tmp_path, "a", [2.0]), series(tmp_path, "b", [3.0]), series(tmp_path, "c", [1.0])])
    assert [row.ratio for row in rows] == [1, 1.5, 0.5]


def test_no_ratio_where_the_first_failed(tmp_path):
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


def test_explanations_tell_of_pytorch_where_it_ran(tmp_path):
    rows = results_of([series(tmp_path, "a", [1.0])])
    assert EAGER not in explanations(rows)
    assert EAGER in explanations([*rows, dataclasses.replace(rows[0], operators="eager")])


def test_explanations_tell_how_memory_was_counted(tmp_path):
    rows = results_of([series(tmp_path, "a", [1.0]), series(tmp_path, "b", [1.0])])
    assert sum("as counted" in sentence for sentence in explanations(rows)) == 1
    assert not any("{" in sentence for sentence in explanations(rows))
