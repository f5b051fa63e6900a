import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from runtimes import cli, environments
from runtimes.cli import BEGIN, END, Model, Row, Trial, main, table_of
from runtimes.environments import Runtime, TrialError, environment_of, run, told


def python(code):
    return [sys.executable, "-c", code]


class TestRun:
    def test_gives_what_was_printed(self):
        assert run(python("print('hello')"), 60) == "hello\n"

    def test_a_command_that_hangs_is_ended(self):
        with pytest.raises(TrialError, match=r"^not done after 1 s$"):
            run(python("import time; time.sleep(60)"), 1)

    def test_a_command_that_crashes_is_told(self):
        with pytest.raises(TrialError, match=r"^crashed \(SIGABRT\)$"):
            run(python("import os; os.abort()"), 60)

    def test_a_command_that_fails_says_why(self):
        with pytest.raises(TrialError, match=r"^ValueError: no such operator$"):
            run(python("raise ValueError('no such operator')"), 60)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "it failed and said nothing"),
        ("a warning\nlast words\n", "last words"),
        ("Traceback\n  File x\nRuntimeError: first\nsecond\n", "RuntimeError: first second"),
    ],
)
def test_what_an_error_says(text, line):
    assert told(text) == line


def test_a_long_error_keeps_its_end():
    line = told(f"RuntimeError: {'x' * 1000} because of Scan")
    assert (len(line) <= 300, line.endswith("because of Scan")) == (True, True)


def test_an_environment_is_made_once_and_again_if_it_wants_other_packages(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(environments, "run", lambda command, seconds: commands.append(command))
    place = environment_of(Runtime("Some, one", "someone", ("one",), alone=("two",)), tmp_path, 1)
    assert [str(word) for word in commands[1][-2:]] == ["numpy", "one"]
    assert [str(word) for word in commands[2][-2:]] == ["--no-deps", "two"]
    assert environment_of(Runtime("Some, one", "someone", ("one",), alone=("two",)), tmp_path, 1) == place
    assert len(commands) == 3
    environment_of(Runtime("Some, one", "someone", ("one==2",)), tmp_path, 1)
    assert len(commands) == 5


def test_an_environment_that_cannot_be_made_is_tried_again(tmp_path, monkeypatch):
    def fail(command, seconds):
        raise TrialError("no network")

    monkeypatch.setattr(environments, "run", fail)
    for _ in range(2):
        with pytest.raises(TrialError, match="no network"):
            environment_of(Runtime("one", "one", ("one",)), tmp_path, 1)


class TestRows:
    """Runtimes of this environment, on a model that adds one."""

    @pytest.fixture
    def model(self, tmp_path):
        value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])
        out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4])
        one = onnx.helper.make_tensor("one", onnx.TensorProto.FLOAT, [1], [1.0])
        graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "one"], ["y"])], "g", [value], [out], [one])
        proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        files = {form: tmp_path / f"{form}.onnx" for form in cli.FORMS}
        for path in files.values():
            onnx.save(proto, path)
        files["portable"].write_bytes(b"damaged")
        inputs = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)
        return Model("digits", files, inputs, inputs + 1)

    @pytest.fixture
    def row(self, model, tmp_path, monkeypatch):
        """``row(adapter, outputs)`` -> what was found of a runtime, if PyTorch gave these outputs."""
        monkeypatch.setattr(cli, "environment_of", lambda runtime, folder, seconds: tmp_path)
        monkeypatch.setattr(cli, "python_of", lambda place: sys.executable)

        def found(adapter="onnxruntime", outputs=model.outputs):
            wanted = Model(model.name, model.files, model.inputs, outputs)
            return cli._row(Runtime("one", adapter, ()), [wanted], tmp_path, tmp_path, 60, 0)

        return found

    @pytest.mark.slow
    def test_a_right_a_damaged_and_another_file(self, row):
        exported, portable, unrolled = row().trials
        assert (exported.word, portable.word, unrolled.word) == ("yes", "no", "yes")
        assert exported.largest_error < 1e-6
        assert exported.milliseconds > 0
        assert portable.error

    @pytest.mark.slow
    def test_wrong_answers(self, row, model):
        row = row("onnx-reference", model.outputs + np.float32(0.5))
        assert row.version == onnx.__version__
        assert row.of("digits", "exported").word == "wrong"
        assert "off by 0." in table_of([row])

    def test_a_runtime_that_cannot_be_installed(self, row, monkeypatch):
        def fail(*_):
            raise TrialError("no network")

        monkeypatch.setattr(cli, "environment_of", fail)
        assert "one could not be installed: no network" in table_of([row()])


def test_the_large_model_runs_in_the_forms_that_the_small_one_ran_in():
    row = Row("one", trials=[Trial("digits", "exported", "refused"), Trial("digits", "portable", largest_error=0.9)])
    row.trials.append(Trial("digits", "unrolled", largest_error=1e-6))
    assert list(cli._worth_trying(cli.BASELINE, row, "Vim-Ti")) == ["portable", "unrolled"]
    row.trials[0] = Trial("digits", "exported", largest_error=1e-6)
    assert list(cli._worth_trying(cli.BASELINE, row, "Vim-Ti")) == ["exported"]


def test_the_table():
    trials = [
        Trial("digits", "exported", "no `Scan` | here"),
        Trial("digits", "portable", "", 1.0, 2e-6, 3.0, 6.0),
        Trial("Vim-Ti", "portable", "", 2.5, 3e-6, 30.0, 60.0),
    ]
    text = table_of([Row("one", "1.0", trials=trials)])
    assert "| one | 1.0 | no | yes |  | 3.0e-06 | --portable | 0.50 | 2.5 |" in text
    assert "- one, digits as exported: `no 'Scan' / here`" in text


def test_the_command_writes_its_files_and_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "_digits", lambda folder: None)
    monkeypatch.setattr(cli, "_vim", lambda folder: None)
    monkeypatch.setattr(cli, "_row", lambda runtime, *_: Row(runtime.name, "1.0"))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    result = CliRunner().invoke(main, ["--only", "TVM", "-o", str(tmp_path / "out"), "--page", str(page)])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "runtimes.json").read_text())["rows"][0]["name"] == "TVM"
    table = (tmp_path / "out" / "runtimes.md").read_text()
    assert page.read_text() == f"before\n{BEGIN}\n{table}{END}\nafter\n"


def test_no_such_runtime():
    result = CliRunner().invoke(main, ["--only", "abacus"])
    assert (result.exit_code, "There is no runtime abacus" in result.output) == (2, True)


def test_every_adapter_is_there():
    adapters = subprocess.run([sys.executable, cli.ADAPTERS], capture_output=True, text=True, check=False)
    assert "IndexError" in adapters.stderr  # it loads without any runtime, and wants its two arguments
    source = cli.ADAPTERS.read_text()
    for runtime in cli.RUNTIMES:
        name = runtime.adapter.replace("-", "_")
        assert name in ("node", "browser") or f"\ndef {name}(" in source
