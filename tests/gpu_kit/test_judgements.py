"""What the checks make of what they see."""

import numpy as np
import pytest

from gpu_kit import check_kernels, check_models
from gpu_kit.build import pip_command
from gpu_kit.records import Log, read_log
from gpu_kit.steps import Settings
from gpu_kit.timing import summary


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "step.jsonl", "step")


@pytest.fixture
def record(tmp_path):
    """The one record that there is."""
    return lambda: read_log(tmp_path / "step.jsonl")[0]


@pytest.mark.parametrize(
    ("code", "output", "status"),
    [
        (0, "[  PASSED  ] 2 tests.\n========= ERROR SUMMARY: 0 errors", "passed"),
        (0, "[  PASSED  ] 0 tests.", "failed"),
        (86, "[  PASSED  ] 2 tests.\n========= ERROR SUMMARY: 3 errors", "failed"),
        (1, "========= Error: Device not supported. Please refer to the list", "skipped"),
        (-11, "", "failed"),
    ],
)
def test_the_end_of_compute_sanitizer(log, record, code, output, status):
    check_kernels.judge("memcheck", code, output, log)
    assert record().status == status


class TestModels:
    WANTED = np.random.default_rng(0).standard_normal((8, 10)).astype(np.float32)

    @pytest.mark.parametrize(
        ("precision", "error", "status"),
        [
            ("fp32", 1e-7, "passed"),
            ("fp32", 1e-3, "failed"),
            ("fp16", 1e-3, "passed"),
            ("fp16", np.nan, "failed"),
        ],
    )
    def test_an_error(self, log, record, precision, error, status):
        check_models.judge("a", precision, self.WANTED * (1 + error), self.WANTED, log)
        assert record().status == status

    def test_another_class_first_fails_and_tells_how_near_the_two_were(self, log, record):
        wanted, found = np.zeros((4, 3), np.float32), np.zeros((4, 3), np.float32)
        wanted[:, 0], wanted[:, 1] = 1, 0.999
        found[:] = wanted
        found[2, 1] = 1.001
        check_models.judge("a", "fp16", found, wanted, log)
        assert record().values["top-1 agreement"] == 0.75
        assert "differ by up to 2.1e-03 of the logits' standard deviation" in record().reason


def test_the_build_is_a_user_s_install_with_the_tests_beside(tmp_path):
    settings = Settings(tmp_path, quick=False, seed=0, models=(), deps=tmp_path / "deps")
    command = pip_command(settings, "90")
    assert f"build-dir={tmp_path / 'build'}" in command
    assert "cmake.define.CMAKE_CUDA_ARCHITECTURES=90-real" in command
    assert f"cmake.define.VIMDEPLOY_DEPS_DIR={tmp_path / 'deps'}" in command
    assert not any("TENSORRT_ROOT" in word for word in command)


def test_times_in_a_few_numbers():
    timing = summary([10.0] * 10 + [11.0] * 10)
    assert (timing.median_us, timing.low_us, timing.high_us) == (10.5, 10.0, 11.0)
    assert timing.spread == pytest.approx(1 / 10.5)
