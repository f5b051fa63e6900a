"""Which line of somebody's code did it."""

import re

import pytest
import torch

from vimdeploy.errors import ConfigError
from vimdeploy.user_code import place_of, place_within, told


def failing():
    return torch.ones(2) + torch.ones(3)  # the line that is told


def caught(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_an_error_came_through_the_innermost_line_that_is_no_librarys():
    wanted = r'line \d+ of test_user_code\.py, in failing: "return torch\.ones\(2\) \+ torch\.ones\(3\) # the line .*"'
    assert re.fullmatch(wanted, place_of(caught(failing)))


def test_an_error_of_ours_says_what_it_says():
    def refuse():
        raise ConfigError("A sentence.")

    assert told(caught(refuse)).startswith("A sentence (line ")
    assert told(caught(failing)).startswith("RuntimeError: The size of tensor a (2) must match")


def test_an_error_that_was_never_raised_has_no_place():
    assert place_of(ValueError("x")) == ""
    assert told(ValueError("x")) == "ValueError: x"


def test_what_runs_now_is_looked_for_up_to_a_file():
    def called():
        return place_within(__file__), place_within(pytest.__file__)

    inner, outer = called()
    assert inner == ""
    assert "of test_user_code.py, in called: " in outer


def test_lines_are_short_and_safe(tmp_path):
    path = tmp_path / "long.py"
    path.write_text(f"def fail():\n    raise ValueError('{'x' * 500}\\x1b')\n")
    scope = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    place = place_of(caught(scope["fail"]))
    assert place.startswith("line 2 of long.py, in fail: ")
    assert len(place) < 150
