import json
import threading

import pytest

from vimdeploy.cli.console import phases, print_json, print_table, step, track


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


def test_json_is_one_document(capsys):
    print_json({"name": "Käfer", "values": [1, None]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"name": "Käfer", "values": [1, None]}
    assert "Käfer" in out


class TestProgress:
    def test_a_step_tells_its_time_on_standard_error(self, capsys):
        with step("Working"):
            pass
        out, err = capsys.readouterr()
        assert (out, err) == ("", "Working: 0.0 s\n")

    def test_a_step_that_fails_tells_no_time(self, capsys):
        with pytest.raises(ZeroDivisionError), step("Working"):
            _ = 1 / 0
        assert "Working: " not in capsys.readouterr().err

    def test_work_with_phases_tells_its_time_on_standard_error(self, capsys):
        with phases("Building") as report:
            for done in range(4):
                report("outer", done, 3)
                report("inner", 1, 1)
            report("never done", 0, 1)
        out, err = capsys.readouterr()
        assert (out, err.splitlines()[-1]) == ("", "Building: 0.0 s")

    @pytest.mark.parametrize("quiet", [True, False])
    def test_quiet_work_has_the_machine_for_itself(self, capsys, monkeypatch, quiet):
        monkeypatch.setenv("FORCE_COLOR", "1")  # for rich a terminal
        before = set(threading.enumerate())  # of which some may end meanwhile
        with phases("Measuring", quiet) as report:
            report("inner", 1, 2)
            assert len(set(threading.enumerate()) - before) == (0 if quiet else 1)
        assert "inner" in capsys.readouterr().err

    def test_tracked_items_come_through(self):
        assert [*track("abc", 3, "Reading")] == ["a", "b", "c"]

    def test_tracking_prints_nothing_on_standard_output(self, capsys):
        list(track("abc", 3, "Reading"))
        assert capsys.readouterr().out == ""
