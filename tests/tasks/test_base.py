import dataclasses
import math

import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.tasks.base import Agreement, Answer, Proportion, image_name
from vimdeploy.tasks.classification import Classification


class TestProportion:
    @pytest.mark.parametrize(
        ("count", "total", "interval"), [(5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1)), (0, 10, (0, 0.2775))]
    )
    def test_wilsons_interval(self, count, total, interval):
        """The numbers are of statistical tables."""
        assert Proportion(count, total).interval == pytest.approx(interval, abs=1e-4)

    @pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (3, 7), (999, 1000)])
    def test_its_interval_holds_the_part(self, count, total):
        low, high = Proportion(count, total).interval
        assert 0 <= low <= Proportion(count, total).part <= high <= 1

    def test_out_of_nothing_may_be_anything(self):
        assert Proportion(0, 0).interval == (0, 1)
        assert math.isnan(Proportion(0, 0).part)


class Words(Answer):
    columns = ("one", "two")

    def rows(self):
        return [("a", "b"), ("c", "d")]

    def document(self):
        return {}


class TestAnswer:
    def test_is_shown_as_its_rows(self):
        assert repr(Words()) == "a  b\nc  d"

    def test_is_no_picture_and_no_arrays_unless_it_says_so(self):
        assert Words().picture(None) is None
        assert Words().arrays() == {}


@pytest.mark.parametrize(("names", "name"), [((), "input 1"), (["cat.png", "dog.png"], "dog.png")])
def test_names_of_images(names, name):
    assert image_name(names, 1) == name


def test_nothing_to_agree_on():
    assert dataclasses.astuple(Agreement()) == ((), (), 0, "", "")


def test_blocks_that_a_task_does_not_have():
    Classification().no_blocks(())
    with pytest.raises(ConfigError, match="blocks are for the task features; classification has no maps of single"):
        Classification().no_blocks([3])
