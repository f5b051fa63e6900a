import pytest
from helpers.stand_in_tensorrt import tensorrt

from vimdeploy.exporters.build_progress import progress_monitor


@pytest.fixture
def told():
    return []


@pytest.fixture
def monitor(told):
    return progress_monitor(tensorrt(), lambda *arguments: told.append(arguments))


def test_steps_are_told_as_they_are_done(monitor, told):
    monitor.phase_start("outer", None, 3)
    monitor.phase_start("inner", "outer", 2)
    assert [monitor.step_complete("inner", step) for step in (0, 1)] == [True, True]
    assert told == [("outer", 0, 3), ("inner", 0, 2), ("inner", 1, 2), ("inner", 2, 2)]


def test_a_phase_that_ends_early_is_told_as_done(monitor, told):
    monitor.phase_start("phase", None, 10)
    monitor.step_complete("phase", 3)
    monitor.phase_finish("phase")
    assert told[-1] == ("phase", 10, 10)


def test_cancelled_it_stops_at_the_next_step(monitor, told):
    monitor.phase_start("phase", None, 10)
    monitor.cancel()
    assert told[-1] == ("Stopping at the next step", 0, 1)
    assert monitor.step_complete("phase", 3) is False


def test_a_report_that_fails_does_not_reach_tensorrt():
    def fail(*_):
        raise BrokenPipeError

    monitor = progress_monitor(tensorrt(), fail)
    monitor.phase_start("phase", None, 10)
    assert monitor.step_complete("phase", 0) is True


def test_nobody_needs_to_listen():
    monitor = progress_monitor(tensorrt(), None)
    monitor.phase_start("phase", None, 1)
    assert monitor.step_complete("phase", 0) is True


def test_it_is_one_for_the_real_tensorrt_rtx():
    trt = pytest.importorskip("tensorrt_rtx")
    assert isinstance(progress_monitor(trt, None), trt.IProgressMonitor)
