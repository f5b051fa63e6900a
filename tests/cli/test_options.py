import click
import pytest

from vimdeploy.cli.options import ImageSize


@pytest.mark.parametrize(("text", "size"), [("224", (224, 224)), ("384x512", (384, 512)), ((1, 2), (1, 2))])
def test_an_image_size(text, size):
    assert ImageSize().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "x", "224x", "x224", "-224", "224x224x3", "2.5", "224 x 224", "big"])
def test_what_is_no_image_size(text):
    with pytest.raises(click.BadParameter, match="wanted a size such as 224 or 384x512"):
        ImageSize().convert(text, None, None)
