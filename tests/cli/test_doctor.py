import json

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
