"""Which layers become int8, by stand-ins for what they cost, and on the trained digits."""

import pytest

from vimdeploy.exporters.quantize.choose import most


@pytest.mark.parametrize("limit", range(8))
def test_most_finds_the_limit(limit):
    asked = []

    def holds(count):
        asked.append(count)
        return count <= limit

    assert most(7, holds) == limit
    assert len(asked) == len(set(asked)) <= 4
    assert 0 not in asked
    assert limit == 0 or limit in asked  # its answers are known


def test_one_layer_is_asked_for_once():
    asked = []
    assert most(1, lambda count: asked.append(count)) == 0
    assert asked == [1]
