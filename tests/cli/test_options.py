import click
import pytest

from vimdeploy.cli.options import (
    OPERATORS,
    Bounds,
    Bytes,
    ImageSize,
    ImageSizes,
    NamedBounds,
    NamedBoundsList,
    Numbers,
    OperatorsChoice,
    SizeOrRange,
)


def convert(type_, value):
    return type_.convert(value, None, None)


@pytest.mark.parametrize(
    ("text", "size"), [("224", (224, 224)), ("384x512", (384, 512)), ("384X512", (384, 512)), ((1, 2), (1, 2))]
)
def test_an_image_size(text, size):
    assert convert(ImageSize(), text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "224x", "x224", "-224", "0", "0x224", "224x224x3", "2.5", "224 x 224", "big"]
)
def test_what_is_no_image_size(text):
    with pytest.raises(click.BadParameter, match=r"wanted a size such as 224 or 384x512 .height x width., found"):
        convert(ImageSize(), text)


def test_image_sizes():
    assert convert(ImageSizes(), "224,384x512,224") == ((224, 224), (384, 512))
    assert convert(ImageSizes(), ((1, 2),)) == ((1, 2),)
    with pytest.raises(click.BadParameter, match="found ''"):
        convert(ImageSizes(), "224,")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("224", (224, 224)),
        ("384X512", (384, 512)),
        ("dynamic", "dynamic"),
        ("224,1248", ((224, 224), (1248, 1248))),
        ("224x320,640x1248", ((224, 320), (640, 1248))),
        ((1, 2), (1, 2)),
    ],
)
def test_a_size_or_a_range(text, wanted):
    assert convert(SizeOrRange(), text) == wanted


@pytest.mark.parametrize("text", ["1,2,3", "224,", "Dynamic", "dynamic,224", "big", "0"])
def test_what_is_neither(text):
    with pytest.raises(click.BadParameter, match=r"wanted a size such as .*, or dynamic; found '.*'"):
        convert(SizeOrRange(), text)


@pytest.mark.parametrize(("text", "sizes"), [("1,4,16", (1, 4, 16)), ("8", (8, 8, 8)), ((1, 1, 8), (1, 1, 8))])
def test_bounds(text, sizes):
    assert convert(Bounds(), text) == sizes


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "1, 2, 3", "-1", "x", "1;2;3"])
def test_what_are_no_bounds(text):
    with pytest.raises(click.BadParameter, match=r"wanted sizes such as 1,1,8 .smallest, best, largest. or 8, found"):
        convert(Bounds(), text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("height=224,640,1248", ("height", (224, 640, 1248))),
        ("width=640", ("width", (640, 640, 640))),
        (("width", (1, 2, 3)), ("width", (1, 2, 3))),
    ],
)
def test_named_bounds(text, wanted):
    assert convert(NamedBounds(), text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("224,640,1248", "wanted a dimension and its sizes, such as height=224,640,1248, found '224,640,1248'"),
        ("=224", "wanted a dimension and its sizes"),
        ("height", "wanted a dimension and its sizes"),
        ("height=", "wanted sizes such as 1,1,8"),
        ("height=1,2", "wanted sizes such as 1,1,8"),
    ],
)
def test_what_are_no_named_bounds(text, message):
    with pytest.raises(click.BadParameter, match=message):
        convert(NamedBounds(), text)


def test_a_list_of_named_bounds():
    assert convert(NamedBoundsList(), " batch=8,32,32  height=224") == {"batch": (8, 32, 32), "height": (224, 224, 224)}
    assert convert(NamedBoundsList(), {"batch": (1, 1, 1)}) == {"batch": (1, 1, 1)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wanted each dimension once, such as 'batch=8,32,32 height=224', found ''"),
        ("batch=1 batch=2", "wanted each dimension once"),
        ("batch=1,height=2", "wanted sizes such as 1,1,8"),
        ("batch=1 8", "wanted a dimension and its sizes"),
    ],
)
def test_what_is_no_list_of_named_bounds(text, message):
    with pytest.raises(click.BadParameter, match=message):
        convert(NamedBoundsList(), text)


@pytest.mark.parametrize(("text", "numbers"), [("1,4", (1, 4)), ("8", (8,)), ("4,1,4", (4, 1)), ((2,), (2,))])
def test_numbers(text, numbers):
    assert convert(Numbers(), text) == numbers


def test_numbers_from_0_on():
    assert convert(Numbers(least=0), "0,11") == (0, 11)


@pytest.mark.parametrize("text", ["", "0", "1,", "1,0", "1, 2", "-1", "x", "1.5"])
def test_what_are_no_numbers(text):
    with pytest.raises(click.BadParameter, match="wanted whole numbers of at least 1, such as 1,4; found"):
        convert(Numbers(), text)


@pytest.mark.parametrize(("text", "size"), [("2K", 2048), ("512M", 512 << 20), ("2g", 2 << 30), (7, 7)])
def test_a_size_in_bytes(text, size):
    assert convert(Bytes(), text) == size


@pytest.mark.parametrize("text", ["", "512", "1.5G", "2T", "G", "-1G", "2 G"])
def test_what_is_no_size_in_bytes(text):
    with pytest.raises(click.BadParameter, match="wanted a size such as 512M or 2G"):
        convert(Bytes(), text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(name, name) for name in OPERATORS] + [("function body", "function-body")],
)
def test_operators_and_their_first_spelling(text, wanted):
    assert convert(OperatorsChoice(OPERATORS), text) == wanted


def test_what_computes_nothing():
    with pytest.raises(click.BadParameter, match="'magic' is not one of"):
        convert(OperatorsChoice(OPERATORS), "magic")


@pytest.mark.parametrize("command", ["run", "extract", "verify", "bench"])
class TestProviders:
    """Options of ONNX Runtime that every command has."""

    @pytest.fixture
    def outcome(self, command, invoke, tiny_onnx, picture, tmp_path):
        more = {
            "run": [picture],
            "extract": [picture, "-o", tmp_path / "out"],
            "bench": ["--rounds", 1, "--seconds", 0],
        }
        return lambda *options: invoke(command, tiny_onnx, *more.get(command, ["--count", 1]), *options)

    @pytest.mark.slow
    def test_one_that_is_there(self, outcome):
        assert outcome("--provider", "CPUExecutionProvider").exit_code == 0

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--provider", "CPUExecutionProvider,Nobody"), "This ONNX Runtime has no Nobody; it has: "),
            (("--cuda-graphs", "--device", "cpu"), "cuda_graphs are of CUDAExecutionProvider, found device cpu."),
        ],
    )
    def test_what_cannot_be(self, command, outcome, options, message):
        result = outcome(*options)
        if command == "bench":  # other artifacts may be measured all the same
            assert (result.exit_code, message in result.stdout) == (1, True)
        else:
            assert (result.exit_code, result.stdout, message in result.stderr) == (2, "", True)
