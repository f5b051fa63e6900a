import signal
from importlib.metadata import version

import click
import pytest

from vimdeploy.cli import main

COMMANDS = ["models", "export", "convert", "quantize", "build", "run", "verify", "bench", "inspect", "doctor"]


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


@pytest.mark.parametrize("code", ["0 good", "1 a check failed", "2 wrong input or usage"])
def test_help_tells_the_exit_codes(invoke, code):
    assert code in invoke("--help").stdout


@pytest.mark.parametrize("arguments", [["no-such-command"], ["run", "--no-such-option"], ["run"]])
def test_wrong_usage_is_2(invoke, arguments):
    assert invoke(*arguments).exit_code == 2


def test_an_error_of_ours_is_one_line(invoke):
    result = invoke("inspect", "none.onnx")
    assert result.stderr == "Error: The model file none.onnx cannot be read: No such file or directory.\n"


def test_terminated_it_unwinds_so_that_nothing_half_written_stays(invoke):
    invoke("models")
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143


def test_a_mistake_of_ours_is_not_hidden(invoke, monkeypatch):
    monkeypatch.setattr("vimdeploy.api.inspect.open_artifact", lambda path, foreign: 1 / 0)
    assert isinstance(invoke("inspect", "none.onnx").exception, ZeroDivisionError)
