from importlib.metadata import version

import click
import pytest

from vimdeploy.cli import main

COMMANDS = ["models", "export", "convert", "quantize", "build", "refit", "run", "extract", "verify", "bench"]
COMMANDS += ["package", "inspect", "doctor"]


def test_version(invoke):
    assert version("vimdeploy") in invoke("--version").stdout


def test_commands_are_listed_in_the_order_of_use(invoke):
    listed = invoke("--help").stdout.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in listed if line.strip()] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_each(invoke, command, flag):
    result = invoke(command, flag)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command):
    options = [parameter for parameter in main.commands[command].params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize(
    "code", ["0 good", "1 a check failed", "2 wrong input", "3 a fault of vimdeploy", "130 interru"]
)
def test_help_tells_the_exit_codes(invoke, code):
    assert code in " ".join(invoke("--help").stdout.split())


@pytest.mark.parametrize("arguments", [["no-such-command"], ["run", "--no-such-option"], ["run"]])
def test_wrong_usage_is_2(invoke, arguments):
    assert invoke(*arguments).exit_code == 2


def test_an_error_of_ours_is_one_line(invoke):
    result = invoke("inspect", "none.onnx")
    assert result.stderr == "Error: The model file none.onnx cannot be read: No such file or directory.\n"


@pytest.fixture
def fails(monkeypatch):
    """Let a command fail with an exception."""

    def fail_with(exception):
        def inspect(*_, **__):
            raise exception

        monkeypatch.setattr("vimdeploy.api.inspect.open_artifact", inspect)

    return fail_with


def test_ctrl_c_is_one_word_and_130(invoke, fails):
    fails(KeyboardInterrupt())
    result = invoke("inspect", "none.onnx")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Interrupted.\n")


def test_no_memory_is_one_sentence_and_1(invoke, fails):
    fails(MemoryError())
    result = invoke("inspect", "none.onnx")
    assert (result.exit_code, result.stderr) == (1, "Error: There is not enough memory.\n")


def test_a_mistake_of_ours_is_one_sentence_and_3(invoke, fails):
    fails(ZeroDivisionError("division by zero"))
    result = invoke("inspect", "none.onnx")
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: This is a fault of vimdeploy: ZeroDivisionError in test_main.py, line ")
    assert "division by zero" in result.stderr


def test_a_mistake_of_ours_can_be_looked_into(invoke, fails, monkeypatch):
    monkeypatch.setenv("VIMDEPLOY_TRACEBACK", "1")
    fails(ZeroDivisionError("division by zero"))
    assert isinstance(invoke("inspect", "none.onnx").exception, ZeroDivisionError)
