import pytest

from vimdeploy.models.stages import StageSpec


@pytest.mark.parametrize(("kind", "block", "title"), [("in_proj", 13, "Block 13, in_proj"), ("norm_f", None, "norm_f")])
def test_titles_are_for_people(kind, block, title):
    assert StageSpec("name", kind, block, 1, "module", "value").title == title
