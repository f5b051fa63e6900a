import json
import math

import pytest

from gpu_kit.records import Log, Record, markdown, read_log, read_results, write_results


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "step.jsonl", "step")


def test_a_log_keeps_its_lines_and_forgets_one_cut_short(tmp_path, log):
    log.passed("a", error=1e-7)
    log.skipped("b", "not here")
    with (tmp_path / "step.jsonl").open("a") as file:
        file.write('{"step": "st')
    assert read_log(tmp_path / "step.jsonl") == [
        Record("step", "a", "passed", {"error": 1e-7}),
        Record("step", "b", "skipped", {}, "not here"),
    ]
    assert read_log(tmp_path / "nothing.jsonl") == []


@pytest.mark.parametrize(
    ("found", "status"), [(1e-6, "passed"), (1e-5, "passed"), (2e-5, "failed"), (math.nan, "failed")]
)
def test_within_a_bound(tmp_path, log, found, status):
    log.within("a", "error", found, 1e-5)
    (record,) = read_log(tmp_path / "step.jsonl")
    assert record.status == status
    assert bool(record.reason) == (status == "failed")


def test_results_are_written_whole_and_read_again(tmp_path):
    records = [Record("step", "a", "passed", {"us": 1.5, "plan": "words"}), Record("step", "b", "failed", {}, "why")]
    path = tmp_path / "results" / "device.json"
    write_results(path, {"device": "D"}, records)
    assert read_results(path) == ({"device": "D"}, records)
    assert [file.name for file in path.parent.iterdir()] == ["device.json"]


def test_nan_is_text_for_json_has_no_number_for_it(tmp_path):
    path = tmp_path / "device.json"
    write_results(path, {}, [Record("step", "a", "failed", {"error": math.nan, "other": math.inf})])
    document = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert document["records"][0]["values"] == {"error": "nan", "other": "inf"}


def test_nothing_is_read_where_no_results_are(tmp_path):
    assert read_results(tmp_path / "nothing.json") == ({}, [])


def test_a_table_for_each_step_and_set_of_values():
    text = markdown(
        {"device": "D"},
        [
            Record("one", "a", "passed", {"us": 1234.5678}),
            Record("one", "b", "skipped", {}, "no | here"),
            Record("one", "c", "measured", {"us": 2.0}),
            Record("two", "d", "measured", {"bytes": 12.0, "plan": "words"}),
        ],
    )
    assert "| device | D |" in text
    assert (
        "### one\n\n| what | result | us | note |\n|---|---|---|---|\n"
        "| a | passed | 1235 |  |\n| c | measured | 2 |  |\n\n"
    ) in text
    assert "| what | result | note |\n|---|---|---|\n| b | skipped | no / here |" in text
    assert "| d | measured | 12 | words |  |" in text
    assert text.endswith("1 passed, 2 measured, 1 skipped, 0 failed")
