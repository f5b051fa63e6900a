"""What several test files share: a tiny model, its files, a picture, and the command line."""

import dataclasses
import json
import os
import shutil
import signal
import sys
from types import ModuleType

# Tests that import onnxruntime, ray or openvino without vimdeploy tell nobody either.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # on a busy machine torch's threads wait for each other, 100 x as long

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from helpers.released import training_state
from helpers.stand_in_tensorrt import Cuda
from PIL import Image

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.engine_file import EngineInfo, sha256_of, write_engine
from vimdeploy.errors import ConfigError
from vimdeploy.models.variant import Variant
from vimdeploy.models.vim.config import VimConfig
from vimdeploy.networks import AnySize, network_of_variant

sys.modules["openvino_telemetry"] = None  # its import fails, which OpenVINO allows for

TINY = VimConfig(image_size=(32, 32), patch_size=8, stride=8, dim=16, depth=2, num_classes=5, state_size=4)
"""16 patches, so 17 tokens; the class token is number 8."""

LABELS = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture(scope="session")
def tiny():
    return Variant("tiny", "vim", TINY, labels=LABELS)


@pytest.fixture(scope="session")
def tiny_network(tiny):
    """The tiny classifier in PyTorch, with random weights."""
    return network_of_variant(tiny, 0)


@pytest.fixture(scope="session")
def tiny_model(tiny_network):
    """Its module."""
    return tiny_network.module


@pytest.fixture(scope="session")
def tiny_info(tiny_network):
    """What its file says of itself."""
    return tiny_network.info


@pytest.fixture(scope="session")
def tiny_json(tmp_path_factory):
    """The tiny model as a description for the command line."""
    path = tmp_path_factory.mktemp("description") / "tiny.json"
    path.write_text(json.dumps({"config": dataclasses.asdict(TINY), "labels": LABELS}))
    return path


@pytest.fixture(scope="session")
def tiny_pth(tmp_path_factory, tiny, tiny_model):
    """The tiny model in the released form, with other weights as model_ema."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pth"
    torch.save(training_state(tiny_model, ema=network_of_variant(tiny, 1).module), path)
    return path


@pytest.fixture
def hub(monkeypatch, tiny_pth):
    """huggingface_hub, in the form of a stand-in that downloads nothing: every file is ``tiny_pth``."""
    hub = ModuleType("huggingface_hub")
    hub.files = ["README.md", "vim_t.pth"]
    hub.asked = []
    hub.list_repo_files = lambda repo: hub.files
    hub.hf_hub_download = lambda repo, name: hub.asked.append((repo, name)) or str(tiny_pth)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return hub


@pytest.fixture(scope="session")
def tiny_proto(tiny_network):
    """The tiny model as ONNX, in memory."""
    from vimdeploy.exporters.onnx_graph import onnx_from_model

    return onnx_from_model(tiny_network.module, tiny_network.info)


@pytest.fixture
def tiny_artifact(tiny_proto):
    """The tiny model as an opened artifact, in memory."""
    return artifact_from_onnx(tiny_proto)


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory, tiny_proto):
    """The tiny model as an ONNX file."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    path.write_bytes(tiny_proto.SerializeToString())
    return path


@pytest.fixture(scope="session")
def any_size_network(tiny):
    """A model that gives features of pictures of any size, in PyTorch."""
    return network_of_variant(tiny, 0, task="features", image_size=AnySize(), blocks=(0,))


@pytest.fixture(scope="session")
def any_size_proto(any_size_network):
    """It as ONNX, in memory."""
    from vimdeploy.exporters.onnx_graph import onnx_from_model

    return onnx_from_model(any_size_network.module, any_size_network.info)


@pytest.fixture(autouse=True)
def _no_gpu_for_onnx_runtime(monkeypatch):
    """Device auto is the CPU in the tests, on machines with a GPU too."""

    def none():
        raise ConfigError("no GPU in the tests")

    monkeypatch.setattr("vimdeploy.gpu.gpus", none)


@pytest.fixture
def foreign_onnx(tmp_path):
    """A whole ONNX file that vimdeploy did not make."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    path = tmp_path / "foreign.onnx"
    graph, opset = onnx.helper.make_graph([node], "foreign", [value], [out]), onnx.helper.make_opsetid("", 18)
    # Both versions are such as the oldest ONNX Runtime takes.
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


@pytest.fixture
def engine_file(tmp_path, tiny_info):
    """``engine_file(flavor=..., ...)`` -> an engine that no TensorRT made, with what is to be known of it beside it."""

    def write(plan=b"a plan", **fields):
        facts = {
            "model": tiny_info,
            "flavor": "tensorrt",
            "tensorrt_version": "10.3.0",
            "profiles": ({"images": ((1, 3, 32, 32), (1, 3, 32, 32), (8, 3, 32, 32))},),
            "onnx_sha256": "abc",
            "engine_sha256": sha256_of(plan),
            "engine_bytes": len(plan),
            "plugin_version": "1",
            "device": "Orin",
            "compute_capability": "8.7",
            "versions": {"vimdeploy": "0.1.0"},
        }
        path = tmp_path / "tiny.engine"
        write_engine(path, plan, EngineInfo(**facts | fields))
        return path

    return write


@pytest.fixture
def plugin_library(monkeypatch, tmp_path):
    """``plugin_library(*architectures)`` -> the path of a plugin library that was built for them; None: without one."""
    from vimdeploy import flavors

    def install(*architectures, path=tmp_path / "plugin.so"):
        monkeypatch.setattr(flavors, "library_path", lambda runtime: path)
        info = {"cuda_architectures": list(architectures)} if path else None
        monkeypatch.setattr(flavors, "library_info", lambda runtime: info)
        return path

    return install


@pytest.fixture
def cuda(monkeypatch):
    """A stand-in for pycuda and for the driver's graphs, in place of both."""
    from vimdeploy import gpu
    from vimdeploy.runtimes import cuda_graph, cuda_streams, engine_on_gpu, gpu_arrays

    stand_in = Cuda()
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", stand_in)
    for module in (gpu, cuda_graph, cuda_streams, gpu_arrays):
        monkeypatch.setattr(module, "driver", lambda: stand_in)
    for cached in (gpu._primary_context, engine_on_gpu._primary_context):
        cached.cache_clear()
    yield stand_in
    for cached in (gpu._primary_context, engine_on_gpu._primary_context):
        cached.cache_clear()


@pytest.fixture
def picture(tmp_path):
    """A picture file, 60 x 40."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def invoke():
    """The command line inside this process: ``invoke("run", path)`` -> click's result."""
    from vimdeploy.cli import main

    before = signal.getsignal(signal.SIGTERM)
    yield lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def command():
    """The command line as a process: the beginning of its argument list."""
    installed = shutil.which("vimdeploy")
    return [installed] if installed else [sys.executable, "-c", "from vimdeploy.cli import main; main()"]


@pytest.fixture(params=["library", "function-body"])
def operators(request):
    """What computes the operators, each in turn; ``pip install .`` always builds the library, so it has to be there."""
    return request.param
