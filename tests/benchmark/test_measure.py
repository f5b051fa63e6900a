import dataclasses

import pytest

from vimdeploy.benchmark import measure as measure_module
from vimdeploy.benchmark.measure import Series, measure
from vimdeploy.benchmark.sources import Settings, Subject
from vimdeploy.errors import ExecutionError, ModelFileError

SETTINGS = Settings(rounds=3, seconds=0.25, warm_up=2)


@pytest.fixture
def log(monkeypatch):
    """What workers were asked for, in order; those named bad fail at loading, weak at their second turn."""
    log = []

    class StandIn:
        def __init__(self, subject, settings):
            self.name, self.turns = subject.name, 0
            if self.name == "bad":
                raise ModelFileError("It is bad.")
            self.facts = {"name": self.name}
            log.append(("open", self.name))

        def turn(self, **length):
            log.append((self.name, *length.items()))
            self.turns += 1
            if self.name == "weak" and self.turns == 3:
                raise ExecutionError("It is weak.")
            if self.name == "stopped" and self.turns == 3:
                raise KeyboardInterrupt
            return [1.0, 2.0], self.turns

        def profile(self):
            log.append(("profile", self.name))
            if self.name == "unprofiled":
                raise ExecutionError("There is no room.")
            return [self.name]

        def __enter__(self):
            return self

        def __exit__(self, *_):
            log.append(("close", self.name))

    monkeypatch.setattr(measure_module, "Worker", StandIn)
    monkeypatch.setattr(measure_module, "_PAUSE_SECONDS", 0)
    return log


def run(tmp_path, *names, settings=SETTINGS):
    reports = []
    paths = {name: tmp_path / ("a.engine" if name == "engine" else "a.onnx") for name in names}
    group = [Series(Subject(name, paths[name]), error="Not made." if name == "unmade" else "") for name in names]
    try:
        measure(group, settings, lambda phase, done, steps: reports.append((done, steps)))
    except KeyboardInterrupt:
        reports.append("interrupted")
    return group, reports


def test_subjects_take_turns(log, tmp_path):
    run(tmp_path, "a", "b")
    warm = [entry for name in "ab" for entry in (("open", name), (name, ("calls", 2)))]
    assert log == [*warm, *[(name, ("seconds", 0.25)) for name in "ababab"], ("close", "b"), ("close", "a")]


def test_warm_up_does_not_count(log, tmp_path):
    (series,), _ = run(tmp_path, "a")
    assert (series.milliseconds, series.peak_bytes) == ([1.0, 2.0] * 3, 4)
    assert series.turns == [[1.0, 2.0]] * 3


def test_one_that_fails_does_not_stop_the_others(log, tmp_path):
    (bad, a, weak), reports = run(tmp_path, "bad", "a", "weak")
    assert (bad.error, weak.error, a.error) == ("It is bad.", "It is weak.", "")
    assert (len(bad.milliseconds), len(weak.milliseconds), len(a.milliseconds)) == (0, 2, 6)
    assert log.count(("weak", ("seconds", 0.25))) == 2
    assert reports[-1] == (12, 12)


def test_one_that_has_failed_already_is_passed_over(log, tmp_path):
    (unmade, a), reports = run(tmp_path, "unmade", "a")
    assert (unmade.error, unmade.milliseconds, len(a.milliseconds)) == ("Not made.", [], 6)
    assert ("open", "unmade") not in log
    assert reports[-1] == (8, 8)


def test_progress_never_goes_back(log, tmp_path):
    _, reports = run(tmp_path, "bad", "a", "weak")
    assert reports == sorted(reports)


def test_profiles_come_after_all_turns(log, tmp_path):
    (a, weak, _), _ = run(tmp_path, "a", "weak", "bad", settings=dataclasses.replace(SETTINGS, profile=True))
    assert (a.profile, weak.profile) == (["a"], [])
    assert log[-3:] == [("profile", "a"), ("close", "weak"), ("close", "a")]


def test_a_profile_that_fails_is_all_that_is_missing(log, tmp_path):
    settings = dataclasses.replace(SETTINGS, profile=True)
    (unprofiled, a), _ = run(tmp_path, "unprofiled", "a", settings=settings)
    assert (unprofiled.error, unprofiled.profile, unprofiled.profile_error) == ("", [], "There is no room.")
    assert (len(unprofiled.milliseconds), a.profile, a.profile_error) == (6, ["a"], "")


def test_what_has_no_profile_is_not_asked(log, tmp_path):
    (engine,), _ = run(tmp_path, "engine", settings=dataclasses.replace(SETTINGS, profile=True))
    assert (engine.profile, engine.profile_error, ("profile", "engine") in log) == ([], "", False)


def test_an_interrupt_loses_nothing_and_closes_all(log, tmp_path):
    (a, stopped), reports = run(tmp_path, "a", "stopped")
    assert (len(a.milliseconds), len(stopped.milliseconds), reports[-1]) == (4, 2, "interrupted")
    assert log[-2:] == [("close", "stopped"), ("close", "a")]
