import importlib
import re

import pytest

from gpu_kit.records import Record
from gpu_kit.steps import GROUPS, STEPS, Settings, Step, chosen_steps, run_step


@pytest.fixture
def settings(tmp_path):
    return Settings(tmp_path / "work", quick=True, seed=3, models=("Vim-Ti",), deps=tmp_path)


@pytest.fixture
def run(tmp_path, settings, monkeypatch):
    """What is recorded of a step whose function has the given body."""

    def run(body, limit_s=60):
        (tmp_path / "invented.py").write_text(f"import os, time\n\ndef run(settings, log):\n    {body}\n")
        return run_step(Step("invented", "check", "invented", "run", limit_s), settings)

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return run


def test_settings_reach_the_process_of_a_step_as_they_are(settings):
    assert Settings.from_json(settings.to_json()) == settings


def test_every_step_is_there():
    for step in STEPS:
        assert callable(getattr(importlib.import_module(step.module), step.function))
        assert step.group in GROUPS


def test_steps_are_chosen_by_name_and_by_group():
    assert chosen_steps([]) == list(STEPS)
    assert [step.name for step in chosen_steps(["operators", "build"])] == ["build", "operators"]
    assert {step.group for step in chosen_steps(["bench"])} == {"bench"}
    with pytest.raises(ValueError, match="no step 'benhc'; the groups are build, check, bench"):
        chosen_steps(["benhc"])


def test_a_step_runs_with_its_settings(run):
    assert run("log.passed('a', seed=float(settings.seed))") == [Record("invented", "a", "passed", {"seed": 3.0})]


def test_a_second_run_replaces_the_first(run):
    run("log.passed('a')")
    assert [record.subject for record in run("log.passed('b')")] == ["b"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("raise RuntimeError('no such kernel')", "ended with 1: .*RuntimeError: no such kernel"),
        ("os.abort()", "ended with -6"),
        ("time.sleep(60)", "took longer than 8 s"),
    ],
)
def test_what_a_step_found_before_its_end_is_kept(run, end, reason):
    found, problem = run(f"log.passed('a'); {end}", limit_s=60 if "sleep" not in end else 8)
    assert found.subject == "a"
    assert (problem.subject, problem.status) == ("the step itself", "failed")
    assert re.match(reason, problem.reason)
