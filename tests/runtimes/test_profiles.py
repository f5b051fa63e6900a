import pytest

from vimdeploy.errors import InputError
from vimdeploy.runtimes.profiles import Part, Profile, parts_of


def profile(index, smallest, best, largest):
    """A profile whose sizes are batches, or batches with a height and a width."""
    shapes = [size if isinstance(size, tuple) else (size, 8, 8) for size in (smallest, best, largest)]
    return Profile(index, *({"images": (batch, 3, *size)} for batch, *size in shapes))


def chosen(profiles, batch, height=8, width=8):
    """The numbers of the profiles, the rows of each part and what is computed."""
    parts = parts_of(profiles, {"images": (batch, 3, height, width)})
    assert [part.start for part in parts] == [sum(part.rows for part in parts[:number]) for number in range(len(parts))]
    return [(part.profile.index, part.rows, part.computed) for part in parts]


ONE_AND_MANY = [profile(0, 1, 1, 1), profile(1, 1, 32, 64)]


@pytest.mark.parametrize(
    ("batch", "parts"),
    [
        (1, [(0, 1, 1)]),
        (2, [(1, 2, 2)]),
        (64, [(1, 64, 64)]),
        (65, [(1, 64, 64), (0, 1, 1)]),
        (150, [(1, 64, 64), (1, 64, 64), (1, 22, 22)]),
    ],
)
def test_the_nearest_runs_each_part(batch, parts):
    assert chosen(ONE_AND_MANY, batch) == parts


@pytest.mark.parametrize(("batch", "number"), [(2, 0), (5, 0), (6, 1), (20, 1)])
def test_near_is_by_the_ratio(batch, number):
    """Between 2 and 16, that is at 5.7."""
    assert chosen([profile(0, 1, 2, 64), profile(1, 1, 16, 64)], batch) == [(number, batch, batch)]


def test_of_equal_ones_the_first():
    assert chosen([profile(0, 1, 4, 8), profile(1, 1, 4, 8)], 4) == [(0, 4, 4)]


@pytest.mark.parametrize(
    ("batch", "parts"),
    [(1, [(0, 1, 1)]), (3, [(1, 3, 8)]), (33, [(1, 32, 32), (0, 1, 1)]), (36, [(1, 32, 32), (1, 4, 8)])],
)
def test_a_gap_is_filled_up(batch, parts):
    assert chosen([profile(0, 1, 1, 1), profile(1, 8, 16, 32)], batch) == parts


def test_rows_for_nobody_weigh_more_than_the_distance():
    assert chosen([profile(0, 8, 8, 64), profile(1, 1, 64, 64)], 7) == [(1, 7, 7)]


def test_the_size_of_the_pictures_counts():
    sizes = [profile(0, (1, 8, 8), (1, 8, 8), (8, 64, 64)), profile(1, (1, 32, 32), (1, 64, 64), (4, 64, 64))]
    assert chosen(sizes, 1, 16, 16) == [(0, 1, 1)]
    assert chosen(sizes, 1, 60, 60) == [(1, 1, 1)]
    assert chosen(sizes, 8, 64, 64) == [(0, 8, 8)]


def test_several_inputs_have_the_batch_of_the_narrowest():
    both = Profile(0, {"a": (1, 2), "b": (2, 3)}, {"a": (4, 2), "b": (4, 3)}, {"a": (8, 2), "b": (4, 3)})
    assert parts_of([both], {"a": (5, 2), "b": (5, 3)}) == [Part(both, 0, 4, 4), Part(both, 4, 1, 2)]


def test_what_none_takes():
    with pytest.raises(InputError) as error:
        chosen([profile(0, 1, 1, 1), profile(1, (1, 16, 16), (8, 16, 16), (8, 16, 16))], 1, 8, 9)
    assert str(error.value) == (
        "The engine was built for images from (1, 3, 8, 8) to (1, 3, 8, 8), or images from (1, 3, 16, 16) to "
        "(8, 3, 16, 16), found images (1, 3, 8, 9); build it again with a wider --shape."
    )
