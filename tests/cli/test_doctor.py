import json
from pathlib import Path

import pytest

from vimdeploy.doctor import MISSING, PROBLEM, READY, Finding


class TestDoctor:
    FINDINGS = (
        Finding("Python", READY, "3.12", cure="never shown"),
        Finding("torch", MISSING, "not installed", cure="pip install torch"),
    )

    @pytest.fixture
    def finds(self, monkeypatch):
        return lambda *findings: monkeypatch.setattr("vimdeploy.doctor.examine", lambda: list(findings))

    def test_table(self, invoke, finds):
        finds(*self.FINDINGS)
        assert [line.split(maxsplit=2) for line in invoke("doctor").stdout.splitlines()] == [
            ["what", "state", "found"],
            ["Python", "ready", "3.12"],
            ["torch", "missing", "not installed; get it with: pip install torch"],
        ]

    def test_json(self, invoke, finds):
        finds(*self.FINDINGS)
        first, second = json.loads(invoke("doctor", "--json").stdout)
        assert (first["state"], second["cure"]) == ("ready", "pip install torch")

    def test_what_is_missing_is_no_failure(self, invoke, finds):
        finds(*self.FINDINGS)
        assert invoke("doctor").exit_code == 0

    def test_a_problem_is(self, invoke, finds):
        finds(*self.FINDINGS, Finding("onnxruntime", PROBLEM, "twice"))
        assert invoke("doctor").exit_code == 1


class TestLibraryPath:
    @pytest.fixture
    def libraries(self, monkeypatch):
        """An installation with the library for ONNX Runtime alone."""
        path = {"onnxruntime": Path("/lib/libvimdeploy_onnxruntime.so")}
        monkeypatch.setattr("vimdeploy.libraries.library_path", path.get)

    @pytest.mark.parametrize("arguments", [(), ("onnxruntime",)])
    def test_is_all_that_is_printed(self, invoke, libraries, arguments):
        assert invoke("doctor", "--library-path", *arguments).stdout == "/lib/libvimdeploy_onnxruntime.so\n"

    def test_json(self, invoke, libraries):
        result = invoke("doctor", "--json", "--library-path")
        assert json.loads(result.stdout) == {"path": "/lib/libvimdeploy_onnxruntime.so"}

    def test_of_a_library_that_was_not_built(self, invoke, libraries):
        result = invoke("doctor", "--library-path", "tensorrt")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "this installation of vimdeploy has none; build it again where CUDA's compiler nvcc" in result.stderr

    def test_of_a_runtime_that_has_none(self, invoke):
        result = invoke("doctor", "--library-path", "openvino")
        assert (result.exit_code, "'onnxruntime', 'tensorrt'" in result.stderr) == (2, True)


class TestCmakePath:
    @pytest.fixture
    def prefix(self, monkeypatch):
        """``prefix(path)``: what an installation has for CMake."""
        return lambda path: monkeypatch.setattr("vimdeploy.libraries.cmake_prefix", lambda: path)

    @pytest.mark.parametrize(
        ("json_", "printed"), [((), "/site/vimdeploy\n"), (("--json",), '"path": "/site/vimdeploy"')]
    )
    def test_is_all_that_is_printed(self, invoke, prefix, json_, printed):
        prefix(Path("/site/vimdeploy"))
        assert printed in invoke("doctor", "--cmake-path", *json_).stdout

    def test_of_an_installation_without(self, invoke, prefix):
        prefix(None)
        result = invoke("doctor", "--cmake-path")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "this installation of vimdeploy has none; build it again where a C++ compiler is" in result.stderr
