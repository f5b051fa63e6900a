import pytest

from vimdeploy.text import printable, reason_of, shortened


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("one\n  two"), "one two"), (ValueError("\n one"), "one"), (EOFError(), "EOFError")],
)
def test_a_reason_is_one_line(error, line):
    assert reason_of(error) == line


def test_a_reason_keeps_its_end_because_it_says_why():
    assert reason_of(RuntimeError("x" * 10_000 + " because of this")).endswith(" because of this")


@pytest.mark.parametrize("length", [599, 600, 601, 10**6])
def test_a_text_is_bounded(length):
    assert len(shortened("x" * length)) == min(length, 600)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Katze 猫 🐈", "Katze 猫 🐈"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("one\r\ntwo\t", r"one\r\ntwo\t"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("name\udcff", r"name\udcff"),
        ("\u2028", r"\u2028"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_printed(text, shown):
    assert printable(text) == shown
