"""The command line as a process of its own."""

import json
import signal
import subprocess
import sys

import pytest

IN_THE_WRITE = """
import os, time
os.fsync = lambda _: (print("writing", flush=True), time.sleep(60))
from vimdeploy.cli import main
main()
"""


@pytest.mark.slow  # the verbs inside one process are in tests/api
def test_export_verify_run(command, tiny_json, tiny_pth, picture, tmp_path):
    def run(*arguments):
        return subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=tmp_path, check=True).stdout

    run("export", tiny_json, "-c", tiny_pth, "-o", "model.onnx")
    assert all(parity["passed"] for parity in json.loads(run("verify", "model.onnx", "-c", tiny_pth, "--json")))
    (image,) = json.loads(run("run", "model.onnx", picture, "--json"))["images"]
    assert len(image["top"]) == 5


def test_python_runs_it_as_a_module(tmp_path):
    python = [sys.executable, "-m", "vimdeploy"]
    shown = subprocess.run([*python, "models"], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert "vim_tiny " in shown
    wrong = subprocess.run([*python, "models", "--none"], capture_output=True, text=True, cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.splitlines()[0]) == (2, "Usage: python -m vimdeploy models [OPTIONS]")


def test_wrong_input_is_one_sentence_and_2(command, tmp_path):
    result = subprocess.run([*command, "run", "none.onnx", "none.png"], capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "Error: The model file none.onnx cannot be read: No such file or directory.\n"


@pytest.mark.slow  # tests/test_files.py has a disk that takes no more, on a stand-in
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_disk_that_takes_no_more_leaves_nothing(command, tiny_json, tmp_path):
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    arguments = [*command, "export", tiny_json, "--random-weights", "0", "-o", "model.onnx"]
    result = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, preexec_fn=limit)
    assert (result.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "model.onnx cannot be written: File too large; nothing was left behind." in result.stderr


@pytest.mark.slow  # tests/cli/test_main.py has the signal, tests/test_files.py the interrupted write
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
class TestKilledWhileWriting:
    """The file is there, under another name, and not yet whole on the disk."""

    def kill(self, tiny_json, folder, number):
        python = [sys.executable, "-c", IN_THE_WRITE]
        arguments = ["export", tiny_json, "--random-weights", "0", "-o", "model.onnx"]
        with subprocess.Popen([*python, *arguments], stdout=subprocess.PIPE, cwd=folder) as process:
            assert process.stdout.readline() == b"writing\n"
            process.send_signal(number)
            process.communicate(timeout=60)
        return process.returncode

    def test_terminated_leaves_nothing(self, tiny_json, tmp_path):
        assert self.kill(tiny_json, tmp_path, signal.SIGTERM) == 143
        assert list(tmp_path.iterdir()) == []

    def test_killed_leaves_no_half_file_under_the_final_name(self, tiny_json, tmp_path):
        (tmp_path / "model.onnx").write_bytes(b"old")
        assert self.kill(tiny_json, tmp_path, signal.SIGKILL) == -signal.SIGKILL
        assert (tmp_path / "model.onnx").read_bytes() == b"old"
