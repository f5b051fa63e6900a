"""What the checks make of what they see."""

from types import SimpleNamespace

import numpy as np
import pytest

from gpu_kit import check_arrays, check_kernels, check_models, profile, sweep
from gpu_kit.build import pip_command
from gpu_kit.kernels import Plan
from gpu_kit.problems import problem_of
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

    @pytest.mark.parametrize(("gap", "status"), [(1e-3, "passed"), (0.1, "failed")])
    def test_another_class_first_fails_if_the_two_are_apart(self, log, record, gap, status):
        wanted, found = np.zeros((4, 3), np.float32), np.zeros((4, 3), np.float32)
        wanted[:, 0], wanted[:, 1] = 1, 1 - gap
        found[:] = wanted
        found[2, 1] = 1 + gap
        check_models.judge("a", "fp16", found, wanted, log)
        assert record().status == status
        assert record().values["top-1 agreement"] == 0.75
        assert record().values["largest margin"] == pytest.approx(gap / wanted.std(), rel=1e-3)

    def test_a_class_that_is_far_behind_is_not_as_good_as_the_first(self, log, record):
        wanted = np.array([[1, 0.9999, 0]], np.float32)
        check_models.judge("a", "fp16", np.array([[0.1, 0.2, 1]], np.float32), wanted, log)
        assert record().status == "failed"


class TestArrays:
    """Ways to run a session that answers with two numbers of each image."""

    IMAGES = np.random.default_rng(0).standard_normal((check_arrays.MAX_BATCH + 3, 3, 2, 4)).astype(np.float32)
    SESSION = SimpleNamespace(run=lambda images: {"logits": images[:, 0, 0, :2]})

    def statuses(self, log, tmp_path, way):
        check_arrays.compare("it", self.SESSION, self.IMAGES, {"so": way}, log)
        return {record.subject: record.status for record in read_log(tmp_path / "step.jsonl")}

    def test_one_that_gives_the_same(self, log, tmp_path):
        found = self.statuses(log, tmp_path, lambda images: images[:, 0, 0, :2] * np.float32(1.0001))
        assert found == {"it, so": "passed", "it, so, 4 threads": "passed"}

    @pytest.mark.parametrize("wrong", [0.9, np.nan])
    def test_one_whose_later_runs_are_wrong(self, log, tmp_path, wrong):
        runs = []

        def way(images):
            runs.append(len(images))
            return images[:, 0, 0, :2] * (wrong if len(runs) % 7 == 0 else 1)

        assert set(self.statuses(log, tmp_path, way).values()) == {"failed"}
        assert sorted(set(runs)) == list(check_arrays.BATCHES)


def test_the_build_is_a_user_s_install_with_the_tests_beside(tmp_path):
    settings = Settings(tmp_path, tmp_path, quick=False, seed=0, models=(), deps=tmp_path / "deps")
    command = pip_command(settings, "90")
    assert f"build-dir={tmp_path / 'build'}" in command
    assert "cmake.define.CMAKE_CUDA_ARCHITECTURES=90-real" in command
    assert f"cmake.define.VIMDEPLOY_DEPS_DIR={tmp_path / 'deps'}" in command
    assert not any("TENSORRT_ROOT" in word for word in command)


def test_times_in_a_few_numbers():
    timing = summary([10.0] * 10 + [11.0] * 10)
    assert (timing.median_us, timing.low_us, timing.high_us) == (10.5, 10.0, 11.0)
    assert timing.spread == pytest.approx(1 / 10.5)


def test_what_ncu_s_report_says():
    page = "\n".join(
        [
            "==PROF== a line that is not of the table",
            '"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"',
            '"0","scan","GPU Speed Of Light Throughput","Duration","us","98.21"',
            '"0","scan","Launch Statistics","Registers Per Thread","register/thread","168"',
            '"0","scan","Launch Statistics","Grid Size","","768"',
        ]
    )
    assert profile.told(page) == {"time of the launch": "98.21 us", "registers": "168 register/thread"}
    assert profile.told("no table") == {}


def test_the_sweep_takes_every_plan_once():
    """Where the kernels take one channel a thread only, and sequences are too short for more than four chunks."""

    class Kernels:
        def plan(self, problem, dtype, choice):
            chunks = min(choice.chunks, 4)
            return Plan(f"{choice.schedule} {chunks} {choice.sums_in_shared}", workspace_bytes=0, expected_us=1.0)

    found = [plan.words for _, plan in sweep.plans(Kernels(), problem_of("Vim-Ti", 1))]
    assert len(found) == len(set(found)) == 2 * (1 + 3 * 3)
    assert found[0] == "sequences 1 True"
    assert found[-1] == "three launches 4 False"
