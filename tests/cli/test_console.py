import io
import json
import logging
import re
import sys
import threading
import warnings

import pytest

from vimdeploy.cli import console
from vimdeploy.cli.console import (
    every_name_printed,
    phases,
    print_json,
    print_table,
    say,
    tally,
    tensorrt_heard,
    warnings_as_lines,
)
from vimdeploy.errors import SlowOperatorsWarning, VimdeployWarning
from vimdeploy.flavors import LOG
from vimdeploy.progress import step, tracked
from vimdeploy.text import printable


class TestTable:
    def test_columns_are_as_wide_as_their_widest_cell(self, capsys):
        print_table(("a", "long header"), [("wide cell", 1), ("x", 22)])
        assert capsys.readouterr().out.splitlines() == ["a          long header", "wide cell  1", "x          22"]

    def test_lines_are_never_cut(self, capsys):
        print_table(("path",), [("x" * 500,)])
        assert "x" * 500 in capsys.readouterr().out

    def test_no_rows(self, capsys):
        print_table(("a", "b"), [])
        assert capsys.readouterr().out == "a  b\n"


class TestJson:
    def test_is_one_document(self, capsys):
        print_json({"name": "Käfer", "values": [1, None], "shape": (2, 3)})
        out = capsys.readouterr().out
        assert json.loads(out) == {"name": "Käfer", "values": [1, None], "shape": [2, 3]}
        assert "Käfer" in out

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
    def test_what_json_does_not_have_is_null(self, capsys, number):
        print_json({"largest": [number, 1.5]})
        assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"largest": [None, 1.5]}


class TestTally:
    def test_tells_the_whole_at_the_end(self, capsys):
        with tally() as told:
            for done in range(1, 4):
                told(done, done // 2)
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert re.fullmatch(r"3 pictures in 0 s, \d+\.\d a second, 1 without an answer\n", err)

    def test_writes_lines_to_a_log(self, capsys, monkeypatch):
        monkeypatch.setattr(console, "_LOGGED", 0.0)
        with tally() as told:
            told(1, 0)
            told(2, 0)
        assert [line.split(" in ")[0] for line in capsys.readouterr().err.splitlines()] == [
            "1 picture",
            "2 pictures",
            "2 pictures",
        ]

    def test_draws_on_a_terminal(self, capsys, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes standard error for a terminal
        with tally() as told:
            told(1, 0)
        assert "\x1b[" in capsys.readouterr().err

    def test_tells_nothing_of_an_end_that_is_none(self, capsys):
        with pytest.raises(KeyboardInterrupt), tally():
            raise KeyboardInterrupt
        assert capsys.readouterr().err == ""


class TestPhases:
    def test_the_whole_tells_its_time_on_standard_error(self, capsys):
        with phases("Building") as progress:
            for done in range(4):
                progress("outer", done, 3)
                progress("inner", 1, 1)
            progress("never done", 0, 1)
        out, err = capsys.readouterr()
        assert (out, err.splitlines()[-1]) == ("", "Building: 0.0 s")

    def test_work_that_fails_tells_no_time(self, capsys):
        with pytest.raises(ZeroDivisionError), phases("Working"):
            _ = 1 / 0
        assert "Working: " not in capsys.readouterr().err

    def test_each_tells_the_time_of_every_phase_once(self, capsys):
        with phases("Exporting", each=True) as progress:
            for name in ("Making", "Tracing"):
                with step(name, progress):
                    pass
            assert [*tracked("abc", "Comparing", 3, progress)] == ["a", "b", "c"]
        out, err = capsys.readouterr()
        assert (out, err.splitlines()) == ("", ["Making: 0.0 s", "Tracing: 0.0 s", "Comparing: 0.0 s"])

    def test_each_tells_a_phase_again_that_comes_again(self, capsys):
        with phases("Exporting", each=True) as progress:
            for _ in range(2):
                with step("Making", progress):
                    pass
        assert capsys.readouterr().err.splitlines() == ["Making: 0.0 s"] * 2

    def test_each_tells_no_time_of_a_phase_that_fails(self, capsys):
        with pytest.raises(ZeroDivisionError), phases("Exporting", each=True) as progress, step("Making", progress):
            _ = 1 / 0
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("quiet", [True, False])
    def test_quiet_work_has_the_machine_for_itself(self, capsys, monkeypatch, quiet):
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes standard error for a terminal
        before = set(threading.enumerate())  # some of them may end meanwhile
        with phases("Measuring", quiet) as progress:
            progress("inner", 1, 2)
            assert len(set(threading.enumerate()) - before) == (0 if quiet else 1)
        assert "inner" in capsys.readouterr().err


class TestWarnings:
    def test_are_one_line_each_and_none_twice(self, capsys):
        with warnings_as_lines():
            for _ in range(2):
                warnings.warn("random inputs", VimdeployWarning, stacklevel=1)
                warnings.warn("slow operators", SlowOperatorsWarning, stacklevel=1)
        assert capsys.readouterr() == ("", "Warning: random inputs\nWarning: slow operators\n")

    def test_a_second_command_shows_them_again(self, capsys):
        for _ in range(2):
            with warnings_as_lines():
                warnings.warn("random inputs", VimdeployWarning, stacklevel=1)
        assert capsys.readouterr().err == "Warning: random inputs\n" * 2

    def test_those_of_others_pass_as_they_are(self, capsys):
        with pytest.warns(UserWarning, match="of another package") as caught, warnings_as_lines():
            warnings.warn("of another package", UserWarning, stacklevel=1)
        assert (len(caught), capsys.readouterr().err) == (1, "")

    def test_afterwards_all_is_as_before(self):
        with warnings_as_lines():
            pass
        with pytest.warns(VimdeployWarning):
            warnings.warn("random inputs", VimdeployWarning, stacklevel=1)


class TestForeignText:
    """Text of a file that a terminal would obey."""

    EVIL = "\x1b]0;title\x07\x1b[2J\r\nPassed: a forged line"
    SHOWN = r"\x1b]0;title\x07\x1b[2J\r\nPassed: a forged line"

    def test_in_a_line(self, capsys):
        say(self.EVIL)
        assert capsys.readouterr().out == self.SHOWN + "\n"

    def test_in_a_table(self, capsys):
        print_table(("name",), [(self.EVIL,)])
        assert capsys.readouterr().out == f"name\n{self.SHOWN}\n"

    @pytest.mark.parametrize("text", [EVIL, "\x9b2J", "\u202e", "猫"])
    def test_in_a_document(self, capsys, text):
        print_json({"name": text})
        out = capsys.readouterr().out
        assert json.loads(out) == {"name": text}
        assert all(printable(line) == line for line in out.splitlines())

    def test_in_a_phase(self, monkeypatch, capsys):
        with phases("Working", each=True) as progress, step(f"[/red]{self.EVIL}", progress):
            pass
        assert f"[/red]{self.SHOWN}: 0.0 s" in capsys.readouterr().err.replace("\n", "")

    def test_in_a_warning(self, capsys):
        with warnings_as_lines():
            warnings.warn(self.EVIL, VimdeployWarning, stacklevel=1)
        assert capsys.readouterr().err == f"Warning: {self.SHOWN}\n"


def test_a_name_that_the_output_cannot_hold_costs_no_answer(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", narrow)
    with every_name_printed():
        print_table(("class",), [("猫",), ("name\udcff",)])
        narrow.flush()
    assert narrow.buffer.getvalue().split() == [b"class", rb"\u732b", rb"name\udcff"]
    assert narrow.errors == "strict"


def test_what_tensorrt_says_is_one_line_each(capsys):
    with tensorrt_heard(logging.INFO):
        LOG.warning("two\n  lines \x1b[1m")
        for node in range(9):
            LOG.info("[W] Importer.cpp:501: node %s", node)
            LOG.info("Weight.hpp:5: weight %s", node) if node < 2 else LOG.debug("detail")
    LOG.warning("unheard")
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == [
        "TensorRT, warning: two lines \\x1b[1m",
        "TensorRT, info: [W] Importer.cpp:501: node 0",
        "TensorRT, info: Weight.hpp:5: weight 0",
    ]
    assert len(said) == 1 + 5 + 2
    assert said[-1] == "TensorRT, info: [W] Importer.cpp:501: node 4 (More from this place is left out; -vv shows it.)"
