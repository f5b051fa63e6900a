import click
import pytest

from vimdeploy.cli.options import Batch, Bytes, ImageSize, ImageSizes, Numbers, engine_options
from vimdeploy.errors import ConfigError


@pytest.mark.parametrize(("text", "size"), [("224", (224, 224)), ("384x512", (384, 512)), ((1, 2), (1, 2))])
def test_an_image_size(text, size):
    assert ImageSize().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "x", "224x", "x224", "-224", "224x224x3", "2.5", "224 x 224", "big"])
def test_what_is_no_image_size(text):
    with pytest.raises(click.BadParameter, match="wanted a size such as 224 or 384x512"):
        ImageSize().convert(text, None, None)


def test_image_sizes():
    assert ImageSizes().convert("224,384x512,224", None, None) == ((224, 224), (384, 512))
    with pytest.raises(click.BadParameter, match="found ''"):
        ImageSizes().convert("224,", None, None)


@pytest.mark.parametrize(("text", "sizes"), [("1,4,16", (1, 4, 16)), ("8", (8, 8, 8)), ((1, 1, 8), (1, 1, 8))])
def test_batch_sizes(text, sizes):
    assert Batch().convert(text, None, None) == sizes


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "1, 2, 3", "-1", "x", "1;2;3"])
def test_what_are_no_batch_sizes(text):
    with pytest.raises(click.BadParameter, match="wanted batch sizes such as 1,1,8"):
        Batch().convert(text, None, None)


@pytest.mark.parametrize(("text", "numbers"), [("1,4", (1, 4)), ("8", (8,)), ("4,1,4", (4, 1)), ((2,), (2,))])
def test_numbers(text, numbers):
    assert Numbers().convert(text, None, None) == numbers


@pytest.mark.parametrize("text", ["", "0", "1,", "1,0", "1, 2", "-1", "x", "1.5"])
def test_what_are_no_numbers(text):
    with pytest.raises(click.BadParameter, match="wanted whole numbers of at least 1, such as 1,4"):
        Numbers().convert(text, None, None)


@pytest.mark.parametrize(("text", "size"), [("2K", 2048), ("512M", 512 << 20), ("2g", 2 << 30), (7, 7)])
def test_a_size_in_bytes(text, size):
    assert Bytes().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "512", "1.5G", "2T", "G", "-1G", "2 G"])
def test_what_is_no_size_in_bytes(text):
    with pytest.raises(click.BadParameter, match="wanted a size such as 512M or 2G"):
        Bytes().convert(text, None, None)


@pytest.mark.parametrize("allowed", [False, True])
def test_an_engines_code_is_allowed_or_not(engine_file, allowed):
    assert engine_options(engine_file(), allowed) == {"allow_engine_code": allowed}


def test_an_onnx_file_has_no_code_to_allow(tiny_onnx):
    assert engine_options(tiny_onnx, False) == {}
    with pytest.raises(ConfigError, match=r"--allow-engine-code is for engines; .*tiny\.onnx is none"):
        engine_options(tiny_onnx, True)
