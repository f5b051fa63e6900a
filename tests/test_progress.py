import pytest

from vimdeploy.progress import silent, tracked


@pytest.fixture
def told():
    return []


@pytest.fixture
def progress(told):
    return lambda phase, done, steps: told.append((phase, done, steps))


def test_items_are_handed_on_and_told_of_when_they_are_done(told, progress):
    seen = []
    for item in tracked("abc", "Spelling", 3, progress):
        seen.append((item, told[-1][1]))
    assert seen == [("a", 0), ("b", 1), ("c", 2)]
    assert told[-1] == ("Spelling", 3, 3)
    assert {(phase, steps) for phase, _, steps in told} == {("Spelling", 3)}


@pytest.mark.parametrize(("items", "done"), [("abcde", [0, 1, 2, 3, 3, 3, 3]), ("a", [0, 1, 3]), ("", [0, 3])])
def test_another_number_of_items_than_steps_ends_with_all_steps(told, progress, items, done):
    assert "".join(tracked(items, "Spelling", 3, progress)) == items
    assert [step[1] for step in told] == done


def test_work_that_breaks_off_is_not_told_as_done(told, progress):
    def items():
        yield "a"
        raise ValueError

    with pytest.raises(ValueError):
        list(tracked(items(), "Spelling", 3, progress))
    assert told[-1] == ("Spelling", 1, 3)


def test_silence():
    assert list(tracked("ab", "Spelling", 2, silent)) == ["a", "b"]
