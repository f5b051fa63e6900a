import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gpu_kit
from gpu_kit.records import Record
from gpu_kit.steps import GROUPS, STEPS, Settings, Step, Worker, chosen_steps


@pytest.fixture
def settings(tmp_path):
    return Settings(tmp_path / "work", tmp_path / "results", quick=True, seed=3, models=("Vim-Ti",), deps=tmp_path)


@pytest.fixture
def step(tmp_path, monkeypatch):
    """A step whose function has the given body."""

    def step(body, name="invented", limit_s=60):
        (tmp_path / f"{name}.py").write_text(f"import os, subprocess, time\n\ndef run(settings, log):\n    {body}\n")
        return Step(name, "check", name, "run", limit_s)

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return step


@pytest.fixture
def worker(settings):
    with Worker(settings) as worker:
        yield worker


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


def test_a_step_runs_with_its_settings(worker, step):
    found = worker.run(step("log.passed('a', seed=float(settings.seed))"))
    assert found == [Record("invented", "a", "passed", {"seed": 3.0})]


def test_steps_share_a_process_and_a_second_run_replaces_the_first(worker, step):
    pid = "log.passed('a', pid=float(os.getpid()))"
    first, second, again = (worker.run(step(pid, name)) for name in ("one", "other", "one"))
    assert first == again
    assert first[0].values == second[0].values
    assert first[0].values["pid"] != os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("raise RuntimeError('no such kernel')", "ended with 1: .*RuntimeError: no such kernel"),
        ("os.abort()", "ended with -6"),
        ("time.sleep(60)", "took longer than 8 s"),
    ],
)
def test_what_a_step_found_before_its_end_is_kept_and_the_next_one_runs(worker, step, end, reason):
    found, problem = worker.run(step(f"log.passed('a'); {end}", limit_s=60 if "sleep" not in end else 8))
    assert found.subject == "a"
    assert (problem.subject, problem.status) == ("the step itself", "failed")
    assert re.match(reason, problem.reason)
    assert worker.run(step("log.passed('b')", "next")) == [Record("next", "b", "passed")]


@pytest.mark.slow
def test_a_step_that_the_minutes_do_not_suffice_for_is_cut_off_and_those_behind_do_not_begin(settings, step):
    with Worker(settings, time.monotonic() + 8) as worker:
        found = worker.run(step("log.passed('a'); time.sleep(60)"))
        behind = worker.run(step("log.passed('b')", "behind"))
    assert found == [
        Record("invented", "a", "passed"),
        Record("invented", "the rest", "skipped", {}, "no time was left of --minutes"),
    ]
    assert behind == [Record("behind", "the step itself", "skipped", {}, "no time was left of --minutes")]


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_of_a_step_outlives_the_kit(tmp_path, step, signal_):
    """A kit whose step waits for a program of its own, as the device tests are."""
    pid_file = tmp_path / "pid"
    step(f"p = subprocess.Popen(['sleep', '600']); open('{pid_file}', 'w').write(str(p.pid)); p.wait()")
    kit = tmp_path / "kit.py"
    kit.write_text(
        "from gpu_kit import cli, machine\n"
        "from gpu_kit.steps import Step\n"
        "cli.missing_gpu = lambda: None\n"
        "cli.describe_machine = lambda *_: {'device': 'invented', 'commit': 'abc'}\n"
        "cli.chosen_steps = lambda _: [Step('invented', 'check', 'invented', 'run', 60)]\n"
        "cli.main()\n"
    )
    path = os.pathsep.join([str(Path(gpu_kit.__file__).parents[1]), str(tmp_path)])
    command = [sys.executable, kit, "--output", tmp_path / "results", "--work", tmp_path / "work"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: pid_file.exists() and pid_file.read_text())
        os.kill(process.pid, signal_)
        process.wait(30)
    wait_for(lambda: has_ended(pid_file.read_text()))
    if signal_ != signal.SIGKILL:
        (results,) = (tmp_path / "results").glob("*.json")
        assert '"interrupted"' in results.read_text()


def has_ended(pid):
    """Also if nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
