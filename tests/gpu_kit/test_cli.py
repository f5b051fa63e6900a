import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from gpu_kit import cli, machine
from gpu_kit.records import Record, read_results
from gpu_kit.steps import REPOSITORY

MACHINE = {"device": "NVIDIA Invented 80GB", "commit": "abc"}


def test_without_a_gpu_it_says_so_in_a_sentence_and_ends_with_2():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    command = [sys.executable, REPOSITORY / "tools" / "gpu_kit"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Wanted an NVIDIA GPU that PyTorch can use, found none: PyTorch ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--only", "bech"], "There is no step 'bech'"), (["--models", "Vim-Ti,Vim-XL"], "There is no model 'Vim-XL'")],
)
def test_wrong_words_are_named(arguments, words):
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    ("device", "part"),
    [("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"), ("Orin (nvgpu)", "orin-nvgpu")],
)
def test_a_device_s_name_becomes_a_part_of_a_file_s(device, part):
    assert machine.slug(device) == part


class TestOnAMachineWithAGpu:
    """The command line around the steps; what the steps do is a GPU's."""

    @pytest.fixture(autouse=True)
    def _machine(self, monkeypatch, tmp_path):
        self.records, self.machine, self.tmp_path = {}, dict(MACHINE), tmp_path
        monkeypatch.setattr(cli, "missing_gpu", lambda: None)
        monkeypatch.setattr(cli, "describe_machine", lambda *_: self.machine)
        monkeypatch.setattr(
            cli.Worker, "run", lambda _, step: [self.records.get(step.name) or passed(step.name)], raising=True
        )

    def run(self, *arguments):
        return CliRunner().invoke(cli.main, ["--output", str(self.tmp_path), *arguments])

    def results(self):
        (path,) = self.tmp_path.glob("nvidia-invented-80gb-*.json")
        return read_results(path)[1]

    def test_tables_on_standard_output_and_a_file_of_all(self):
        result = self.run("--only", "build,operators", "--seed", "5")
        assert result.exit_code == 0
        assert "### operators" in result.stdout
        assert "| seed | 5 |" in result.stdout
        assert self.results() == [passed("build"), passed("operators")]

    def test_a_failed_check_ends_with_1_after_the_rest_has_run(self):
        self.records["build"] = Record("build", "a", "failed", {}, "why")
        assert self.run().exit_code == 1
        assert self.results()[-1].step == "initcheck"

    def test_steps_run_later_replace_their_own_records_alone(self):
        self.run("--only", "build,operators")
        self.records["operators"] = Record("operators", "a", "failed", {}, "why")
        self.run("--only", "operators")
        assert self.results() == [passed("build"), self.records["operators"]]

    def test_the_file_is_whole_after_every_step(self, monkeypatch):
        def run(_, step):
            if step.name == "operators":
                assert self.results() == [passed("build")]
                raise KeyboardInterrupt
            return [passed(step.name)]

        monkeypatch.setattr(cli.Worker, "run", run)
        assert self.run("--only", "build,operators,kernels").exit_code == 1
        assert self.results() == [passed("build"), Record("operators", "the rest", "skipped", {}, "interrupted")]

    def test_sources_without_a_commit_want_its_name(self):
        self.machine["commit"] = "unknown (CalledProcessError)"
        result = self.run("--only", "build")
        assert result.exit_code == 2
        assert "name it with --commit" in result.output

    def test_records_of_another_commit_are_left_behind(self):
        self.run("--only", "build,operators")
        self.machine["commit"] = "def"
        self.run("--only", "operators")
        assert self.results() == [passed("operators")]


def passed(step):
    return Record(step, "a", "passed")
