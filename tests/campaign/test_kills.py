import random

import pytest
from click.testing import CliRunner

from campaign import kills
from campaign.kills import COMMANDS, Command, Target, missing

WRITER = """
import subprocess, sys, time
from pathlib import Path
place = Path("out/file.txt")
{body}
"""


def a_whole_file(path):
    assert path.read_text() == "begin, end"


def target(tmp_path, body):
    """A command of a few lines of Python, in place of one of vimdeploy."""
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    program = ("-c", WRITER.format(body=body))
    return Target(Command("", ("file.txt",), a_whole_file, program=program), tmp_path)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (
            'whole = Path("out/.vimdeploy-0.part"); whole.write_text("begin, end"); whole.rename(place)',
            ("before", "after"),
        ),
        (
            'f = place.open("w"); f.write("begin, "); f.flush(); time.sleep(1); f.write("end"); f.close()',
            ("file.txt is half-written",),
        ),
        (
            'Path("out/stray").write_text(""); time.sleep(1); Path("out/stray").rename(place); '
            'place.write_text("begin, end")',
            ("left behind: stray",),
        ),
        (
            'Path("out/.vimdeploy-0.part").write_text(""); time.sleep(1); Path("out/.vimdeploy-0.part").rename(place); '
            'place.write_text("begin, end")',
            ("before",),
        ),
        (
            'subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"], stdout=2); '
            'place.write_text("begin, end")',
            ("a process lives on",),
        ),
    ],
)
def test_tells_what_a_killed_command_leaves(tmp_path, monkeypatch, body, found):
    monkeypatch.setattr(kills, "GRACE", 0.2)
    assert target(tmp_path, body).kill_after(0.0, written=True, has_old=False) in found


def test_a_command_whose_package_is_not_there_is_skipped(monkeypatch):
    command = Command("", (), a_whole_file, ("json", "no_such_package"))
    assert (missing(command), missing(COMMANDS["export"])) == ("no_such_package", "")
    monkeypatch.setattr(kills, "COMMANDS", {"export": command})
    result = CliRunner().invoke(kills.main, ["--seed", "0"])
    assert (result.exit_code, result.stdout) == (0, "export     skipped: there is no no_such_package\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_commands_leave_nothing_half_written(tmp_path, name):
    if package := missing(COMMANDS[name]):
        pytest.skip(f"there is no {package}")
    kills.prepare(tmp_path)
    killed = Target(COMMANDS[name], tmp_path)
    moment = random.Random(0)
    assert {killed.kill(moment) for _ in range(2)} <= {"before", "between", "after"}
