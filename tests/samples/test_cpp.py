"""The C++ programs: they are built from what an installation has, and answer as ``vimdeploy run`` does, to the bit."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.loading import ROOT
from PIL import Image

from vimdeploy.api.convert import convert
from vimdeploy.artifact import open_artifact
from vimdeploy.inputs import picture_windows
from vimdeploy.libraries import cmake_prefix, library_path
from vimdeploy.model_info import ModelInfo, SizeRange, TensorSpec
from vimdeploy.recipe import Recipe
from vimdeploy.tasks.base import Limits

pytestmark = pytest.mark.slow
DEPS = ROOT / "build/deps/usr"


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The folder of the programs, built against the ONNX Runtime of Python's package."""
    if library_path("onnxruntime") is None:
        pytest.skip("the package was installed without its compiled operators")
    prefix = cmake_prefix()
    assert prefix, "the package has compiled operators, and nothing for CMake"
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake or c++ is not on PATH")
    if not (DEPS / "include/nlohmann/json.hpp").is_file():
        pytest.skip("no headers for samples/cpp: tools/fetch_headers build/deps")
    runtime = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"), None)
    if runtime is None:
        pytest.skip("the package onnxruntime has no libonnxruntime.so here")
    folder = tmp_path_factory.mktemp("cpp")
    library = folder / "libonnxruntime.so.1"  # as it calls itself
    library.symlink_to(runtime)
    options = [f"-DCMAKE_PREFIX_PATH={DEPS};{prefix}", f"-DONNXRUNTIME_LIBRARY={library}", *tensorrt_options()]
    command = ["cmake", "-S", ROOT / "tests/samples/cpp", "-B", folder, *options]
    subprocess.run(command, check=True)
    subprocess.run(["cmake", "--build", folder, "--parallel", "2"], check=True)
    return folder


def tensorrt_options():
    """The lean runtime, if it is installed, has what the program needs, and wants no GPU to be loaded."""
    spec = find_spec("tensorrt_lean_libs")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("libnvinfer_lean.so*")) if spec else []
    return [f"-DTENSORRT_LIBRARY={found[0]}"] if found else []


def printed(*command):
    """What a program prints on standard output."""
    done = subprocess.run(list(map(str, command)), capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(*command):
    """What a program says on standard error of what it does not do."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of every kind that both read, and of many sizes."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    sizes = [(320, 240), (150, 333), (65, 64), (1, 1), (500, 301), (3000, 20), (21, 3001)]
    noise = [Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)) for width, height in sizes]
    for image in noise:
        image.save(folder / f"{image.width}x{image.height}.png")
    picture = noise[0]
    for mode in ("1", "L", "LA", "P", "RGBA"):
        picture.convert(mode).save(folder / f"{mode}.png")
    Image.fromarray(random.integers(0, 1 << 16, (50, 70), np.uint16)).save(folder / "sixteen_bit.png")
    smooth = picture.resize((16, 12)).resize((333, 251), Image.Resampling.BICUBIC)
    for name, options in {
        "444": {"subsampling": 0},
        "420": {"subsampling": 2},
        "rising": {"progressive": True},
    }.items():
        smooth.save(folder / f"{name}.jpg", quality=90, **options)
    smooth.convert("L").save(folder / "grey.jpg")
    return sorted(folder.iterdir())


RECIPE = Recipe()
LOGIT = TensorSpec("logits", ("batch", 1))


def model(dims=("batch", 3, 32, 32), recipe=RECIPE, type_="float32", task="classification"):
    """What a file says of itself that takes such pictures."""
    sizes = {"height": SizeRange(32, None, 16, 224), "width": SizeRange(16, 512, 16, 224)}
    logits = TensorSpec("logits", ("batch", 5))
    return ModelInfo("some", (TensorSpec("images", dims, type_),), (logits,), task, sizes, recipe=recipe)


def metadata_file(folder, info, **others):
    """What ``print_tensors`` reads: the entries of a file, some of them others."""
    entries = info.to_metadata() | {f"vimdeploy.{name}": value for name, value in others.items()}
    path = folder / "metadata"
    path.write_text("".join(f"{name}\n{value}\n" for name, value in entries.items()))
    return path


class TestPictures:
    @pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
    @pytest.mark.parametrize(
        ("channels", "size", "crop", "as_bytes"),
        [
            (3, (224, 224), 0.875, False),
            (3, (96, 160), 1.0, False),
            (1, (28, 28), 0.95, False),
            (3, ("height", "width"), 0.875, False),
            (3, (64, 32), 0.9, True),
        ],
        ids=str,
    )
    def test_become_what_vimdeploy_makes_of_them(
        self, build, pictures, interpolation, channels, size, crop, as_bytes, tmp_path
    ):
        dims = ("batch", *size, channels) if as_bytes else ("batch", channels, *size)
        recipe = Recipe(crop, interpolation, (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels])
        info = model(dims, recipe, "uint8" if as_bytes else "float32")
        found = printed(build / "print_tensors", metadata_file(tmp_path, info), *pictures)
        for path in pictures:
            [(wanted, _)] = picture_windows([path], info, None, Limits())
            image = wanted["images"]
            shape, found = np.frombuffer(found[:32], np.int64), found[32:]
            assert tuple(shape) == (1, *image.shape), path.name
            values, found = np.frombuffer(found[: image.nbytes], image.dtype), found[image.nbytes :]
            np.testing.assert_array_equal(values, image.ravel(), path.name)
        assert not found

    @pytest.mark.parametrize(
        ("info", "others", "sentence"),
        [
            (model(recipe=Recipe(fit="slide")), {}, "does not take the middle of pictures"),
            (model(recipe=Recipe(interpolation="nearest")), {}, "resizes pictures by nearest"),
            (model(("batch", 4, 32, 32), Recipe(mean=(0.5,) * 4, std=(0.5,) * 4)), {}, "neither grey nor RGB"),
            (model((4, 3, 32, 32)), {}, "several pictures at a time"),
            (model(type_="float64"), {}, "neither uint8 nor float32"),
            (model(task="features"), {}, "its task is 'features'"),
            (model(), {"format": "3"}, "of another vimdeploy"),
            (model(), {"recipe": "{"}, "metadata is damaged"),
            (model(), {"recipe": "[]"}, "metadata is damaged"),
            (model(), {"inputs": "[]"}, "metadata is damaged"),
            (model(("batch", 3, "height", 32)), {"sizes": '{"height": {"least": 0, "step": 1}}'}, "no picture has"),
            (model(("batch", 3, "height", 32)), {"sizes": '{"height": {"least": 1e99, "step": 1}}'}, "no picture has"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_of_a_model_that_wants_others_are_refused(self, build, info, others, sentence, picture, tmp_path):
        assert sentence in refusal(build / "print_tensors", metadata_file(tmp_path, info, **others), picture)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Files of random pictures of several sizes."""
    folder, random = tmp_path_factory.mktemp("many"), np.random.default_rng(1)
    paths = [folder / f"{number}.png" for number in range(20)]
    for number, path in enumerate(paths):
        Image.fromarray(random.integers(0, 256, (40 + number, 60, 3), np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def files(tiny_onnx, tmp_path_factory):
    """The tiny model in files that take pictures as floats and as bytes."""
    made = tmp_path_factory.mktemp("files") / "bytes_in.onnx"
    convert(tiny_onnx, made, uint8_input=True)
    return {"floats": tiny_onnx, "bytes_in": made}


def answers(invoke, model, pictures):
    """What ``vimdeploy run`` prints of pictures."""
    return json.loads(invoke("run", str(model), *map(str, pictures), "--json").stdout)["images"]


class TestOnnxRuntime:
    @pytest.fixture
    def classify(self, build):
        return build / "samples/classify_onnxruntime"

    @pytest.mark.parametrize("file", ["floats", "bytes_in"])
    def test_answers_as_vimdeploy_does_to_the_bit(self, classify, files, file, many, invoke):
        wanted = answers(invoke, files[file], many)
        assert json.loads(printed(classify, files[file], *many)) == {"images": wanted}
        assert [len(image["top"]) for image in wanted] == [5] * len(many)

    @pytest.mark.parametrize("labels", [("cat",), ()], ids=["named", "nameless"])
    def test_answers_as_vimdeploy_does_of_grey_pictures_of_any_size_and_one_logit(
        self, classify, labels, many, invoke, tmp_path
    ):
        recipe = Recipe(mean=(0.5,), std=(0.25,))
        info = replace(model(("batch", 1, "height", "width"), recipe), outputs=(LOGIT,), labels=labels)
        images, logits = (
            onnx.helper.make_tensor_value_info(spec.name, onnx.TensorProto.FLOAT, spec.dims)
            for spec in (*info.inputs, *info.outputs)
        )
        nodes = [
            onnx.helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            onnx.helper.make_node("Flatten", ["pooled"], ["logits"]),
        ]
        graph, opset = onnx.helper.make_graph(nodes, "mean", [images], [logits]), onnx.helper.make_opsetid("", 20)
        proto = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
        onnx.helper.set_model_props(proto, info.to_metadata())
        onnx.save(proto, tmp_path / "mean.onnx")
        wanted = answers(invoke, tmp_path / "mean.onnx", many)
        assert json.loads(printed(classify, tmp_path / "mean.onnx", *many)) == {"images": wanted}
        name = labels[0] if labels else "class 0"
        assert {prediction["label"] for image in wanted for prediction in image["top"]} == {name, f"not {name}"}

    def test_wants_pictures(self, classify, tiny_onnx):
        done = subprocess.run([classify, tiny_onnx], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (2, "usage: classify_onnxruntime MODEL PICTURE...\n")

    @pytest.mark.parametrize(
        ("name", "content", "sentence"),
        [
            ("none.png", None, "cannot be opened"),
            ("text.png", b"no picture at all", "no PNG or JPEG"),
            ("empty.png", b"", "no PNG or JPEG"),
            ("half.png", 0.5, "is damaged"),
            ("half.jpg", 0.5, "is damaged"),
        ],
    )
    def test_a_file_that_is_no_picture_is_refused(
        self, classify, tiny_onnx, picture, name, content, sentence, tmp_path
    ):
        path = tmp_path / name
        if isinstance(content, float):
            Image.open(picture).save(path)
            content = path.read_bytes()[: int(content * path.stat().st_size)]
        if content is not None:
            path.write_bytes(content)
        said = refusal(classify, tiny_onnx, path)
        assert said.startswith(f"classify_onnxruntime: {path}: ")
        assert sentence in said

    def test_a_model_that_it_cannot_run_is_refused(self, classify, foreign_onnx, tiny_onnx, picture, tmp_path):
        assert "it has no entry vimdeploy.format, so vimdeploy did not make it" in refusal(
            classify, foreign_onnx, picture
        )
        assert "none.onnx" in refusal(classify, tmp_path / "none.onnx", picture)
        half, model = tmp_path / "half.onnx", onnx.load(tiny_onnx)
        [precision] = [entry for entry in model.metadata_props if entry.key == "vimdeploy.precision"]
        precision.value = "fp16"
        onnx.save(model, half)
        assert "is in fp16, for GPUs" in refusal(classify, half, picture)


class TestStandIn:
    """All that the program for TensorRT does, with a stand-in for TensorRT and CUDA that computes by ONNX Runtime."""

    @pytest.fixture
    def classify(self, build):
        return build / "classify_stand_in"

    @pytest.fixture
    def engine(self, files, engine_file):
        """``engine(file, ...)`` -> an engine that is an ONNX file, and the file beside it."""

        def write(file, **fields):
            info = open_artifact(files[file]).info
            shape = (1, *info.inputs[0].dims[1:])
            return engine_file(files[file].read_bytes(), model=info, profiles=({"images": (shape,) * 3},), **fields)

        return write

    @pytest.mark.parametrize("file", ["floats", "bytes_in"])
    def test_answers_as_vimdeploy_does_to_the_bit(self, classify, engine, files, file, many, invoke):
        assert json.loads(printed(classify, engine(file), *many)) == {"images": answers(invoke, files[file], many)}

    def test_loads_the_plugin_for_engines_that_have_one_alone(self, classify, engine, files, many, invoke):
        """The bodies of the functions round otherwise than the library, by a little."""
        found = json.loads(printed(classify, engine("floats", plugin_version=None), *many))["images"]
        wanted = answers(invoke, files["floats"], many)
        assert found != wanted
        for one, other in zip(found, wanted, strict=True):
            assert one["top"][0]["probability"] == pytest.approx(other["top"][0]["probability"], rel=1e-4)

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"flavor": "rtx"}, "it is for TensorRT-RTX"),
            ({"plugin_in_engine": True}, "it carries code"),
            ({"version_compatible": True}, "it carries code"),
            ({"engine_bytes": 5}, "not the engine that the file beside it speaks of"),
        ],
        ids=str,
    )
    def test_an_engine_that_it_cannot_run_is_refused(self, classify, engine, picture, fields, sentence):
        assert sentence in refusal(classify, engine("floats", **fields), picture)

    def test_an_engine_that_is_not_what_the_file_beside_it_says_is_refused(self, classify, engine, files, picture):
        path = engine("floats")
        shutil.copy(files["bytes_in"], path)
        sidecar = json.loads(Path(f"{path}.json").read_text()) | {"engine_bytes": path.stat().st_size}
        Path(f"{path}.json").write_text(json.dumps(sidecar))
        assert "its images is not what the file beside it says" in refusal(classify, path, picture)

    def test_an_engine_alone_is_refused(self, classify, files, picture):
        assert f"{files['floats']}.json cannot be opened" in refusal(classify, files["floats"], picture)


class TestTensorRT:
    """Built against TensorRT's headers and linked to its lean runtime; without a GPU it comes no further."""

    @pytest.fixture
    def classify(self, build):
        program = build / "samples/classify_tensorrt"
        if not program.exists():
            pytest.skip("TensorRT's headers or CUDA's were not found; TENSORRT_ROOT names the folder above include")
        return program

    def test_without_a_gpu_it_says_so(self, classify, engine_file, picture):
        if shutil.which("nvidia-smi"):
            pytest.skip("there is a GPU")
        assert "looking for a GPU failed: " in refusal(classify, engine_file(plugin_version=None), picture)


def test_the_cookbook_shows_lines_of_the_sample():
    page = (ROOT / "docs/cookbook/cpp.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "samples/cpp").rglob("*.*") if path.suffix != ".md")
    lines = [
        line.strip() for block in re.findall(r"(?ms)^```(?:cpp|cmake)\n(.*?)^```", page) for line in block.splitlines()
    ]
    assert lines
    assert [line for line in lines if line not in sources] == []
