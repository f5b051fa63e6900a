"""Execution providers: a real plugin for CPUs, and packages in the manner of plugins that a test makes."""

import contextlib
import gc
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from vimdeploy import libraries
from vimdeploy.errors import ConfigError, InputError
from vimdeploy.flavors import version_of
from vimdeploy.gpu import device_of
from vimdeploy.runtimes import providers
from vimdeploy.runtimes.load import load
from vimdeploy.runtimes.providers import find_providers, kind_of, plugin_device, provider_choices

PROVIDER = "cpu_ep"
"""The provider of the package nxrt_ep_cpu, which does not follow ONNX Runtime's guidance for names."""


takes_plugins = pytest.mark.skipif(not hasattr(ort, "get_ep_devices"), reason="ONNX Runtime is older than 1.22")


@contextlib.contextmanager
def installed(folder):
    """Packages in a folder, in the manner of ONNX Runtime's plugins, as if pip had installed them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)

        def install(name, text):
            (folder / f"{name}.py").write_text(text)

        yield install
        for name in [name for name in sys.modules if name.startswith("onnxruntime_ep_")]:
            patch.delitem(sys.modules, name)


@pytest.fixture
def package(tmp_path):
    with installed(tmp_path) as install:
        yield install


def plugin(provider, library):
    return f"def get_ep_names():\n    return [{provider!r}]\ndef get_library_path():\n    return {str(library)!r}\n"


@pytest.fixture(scope="module")
def cpu_plugin(tmp_path_factory):
    """The provider of an installed plugin, which the first session that wants it registers.

    It is a pre-release of its author, so no extra brings it.
    """
    real = pytest.importorskip(
        "nxrt_ep_cpu", reason="a plugin for CPUs is not installed: pip install nxrt-ep-cpu==0.1.0.dev6"
    )
    if version_of(ort.__version__) < (1, 24):
        pytest.skip(f"plugins want ONNX Runtime 1.24 or newer, here is {ort.__version__}")
    with installed(tmp_path_factory.mktemp("plugin")) as install:
        install("onnxruntime_ep_nxrt", plugin(PROVIDER, real.get_library_path()))
        find_providers([PROVIDER])
        yield PROVIDER
    gc.collect()  # the library must outlive its sessions
    ort.unregister_execution_provider_library(PROVIDER)


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)


class TestOfACpu:
    def test_runs_a_part_of_a_model_by_its_function_bodies(self, cpu_plugin, tiny_onnx, images, recwarn):
        session = load(tiny_onnx, providers=[cpu_plugin])
        assert session.description == "ONNX Runtime (function body, cpu, cpu_ep)"
        workers = {part.ep_name for part in session._session.get_provider_graph_assignment_info()}
        assert workers == {cpu_plugin, "CPUExecutionProvider"}
        wanted = load(tiny_onnx, providers=["CPUExecutionProvider"]).run(images)["logits"]
        np.testing.assert_allclose(session.run(images)["logits"], wanted, atol=1e-5)
        assert not recwarn.list

    @pytest.mark.parametrize("providers", [[PROVIDER, "CPUExecutionProvider"], ["AzureExecutionProvider", PROVIDER]])
    def test_beside_others(self, cpu_plugin, tiny_onnx, images, providers):
        session = load(tiny_onnx, providers=providers)
        assert session._session.get_providers()[: len(providers)] == providers
        assert session.run(images)["logits"].shape == (2, 5)

    def test_the_library_computes_beside_it_if_it_is_asked_for(self, cpu_plugin, tiny_onnx, images):
        session = load(tiny_onnx, providers=[cpu_plugin], operators="library")
        assert session.description == "ONNX Runtime (library, cpu, cpu_ep)"
        assert session.run(images)["logits"].shape == (2, 5)

    def test_a_missing_library_is_no_surprise(self, cpu_plugin, tiny_onnx, monkeypatch, recwarn):
        monkeypatch.setattr(libraries, "library_path", lambda: None)
        assert load(tiny_onnx, providers=[cpu_plugin]).operators == "function body"
        assert not recwarn.list

    def test_again_and_on_one_thread_and_by_its_stages(self, cpu_plugin, tiny_onnx, images):
        session = load(tiny_onnx, providers=[cpu_plugin])
        again, one = pickle.loads(pickle.dumps(session)), session.on_one_thread()
        assert again.description == one.description == session.description
        assert session.open_stages().values({"images": images}).keys() == session.open_stages().names

    def test_one_that_would_run_nothing_is_refused(self, cpu_plugin, tmp_path):
        x, y = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
            for name, dims in (("x", [2, 2]), ("y", []))
        )
        graph = onnx.helper.make_graph([onnx.helper.make_node("Det", ["x"], ["y"])], "determinant", [x], [y])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
        onnx.save(model, tmp_path / "determinant.onnx")
        with pytest.raises(ConfigError, match=r"cpu_ep takes no node of the model, so others would run all of it"):
            load(tmp_path / "determinant.onnx", providers=[cpu_plugin])

    def test_it_has_one_device(self, cpu_plugin, tiny_onnx):
        with pytest.raises(ConfigError, match=r"cpu_ep has devices 0 to 0 here, wanted was 1\."):
            load(tiny_onnx, providers=[cpu_plugin], device="cuda:1")


class TestThatCannotBe:
    def test_unknown(self):
        with pytest.raises(
            ConfigError, match=r"has no Nobody; it has: .*CPUExecutionProvider.*; if it is a plugin, pip"
        ):
            find_providers(["Nobody"])

    @pytest.mark.parametrize("provider", [("CPUExecutionProvider",), ("CPUExecutionProvider", "threads=1"), 1, None])
    def test_no_name_and_no_pair(self, provider):
        with pytest.raises(ConfigError, match=r"^Wanted the name of an execution provider, or a pair .*; found "):
            provider_choices([provider], device_of("auto"))

    @pytest.mark.parametrize("stream", ["x", -1, None])
    def test_no_stream(self, stream):
        with pytest.raises(InputError, match=r"Wanted a CUDA stream or its handle, found "):
            providers._options("CUDAExecutionProvider", {"user_compute_stream": stream}, device_of("cuda"), False)

    @takes_plugins
    def test_a_library_that_is_none(self, package, tmp_path):
        (tmp_path / "none.so").write_bytes(b"not a library")
        package("onnxruntime_ep_example", plugin("ExampleProvider", tmp_path / "none.so"))
        with pytest.raises(ConfigError, match=r"cannot load the plugin onnxruntime_ep_example: .*none\.so"):
            find_providers(["CPUExecutionProvider", "ExampleProvider"])

    def test_a_package_that_cannot_be_imported_is_told_if_nothing_else_brings_the_provider(self, package):
        package("onnxruntime_ep_broken", "raise OSError('libexample.so.1 is not here')")
        find_providers(["CPUExecutionProvider"])
        with pytest.raises(
            ConfigError, match=r"onnxruntime_ep_broken cannot be imported: libexample\.so\.1 is not here"
        ):
            find_providers(["ExampleProvider"])

    @pytest.mark.parametrize("attempt", range(2))
    def test_no_device(self, cpu_plugin, package, attempt):
        library = sys.modules["nxrt_ep_cpu"].get_library_path()
        package("onnxruntime_ep_other", plugin("OtherProvider", library))
        with pytest.raises(
            ConfigError, match=r"onnxruntime_ep_other finds no device on this machine that OtherProvider"
        ):
            find_providers(["OtherProvider"])

    def test_an_onnx_runtime_without_plugins(self, monkeypatch):
        monkeypatch.delattr(ort, "get_ep_devices", raising=False)
        find_providers(["CPUExecutionProvider"])
        assert plugin_device("CPUExecutionProvider") is None

    def test_an_onnx_runtime_that_is_too_old_for_one(self, package, monkeypatch):
        monkeypatch.delattr(ort, "register_execution_provider_library", raising=False)
        package("onnxruntime_ep_example", plugin("ExampleProvider", "example.so"))
        with pytest.raises(ConfigError, match=r"takes no plugins, such as onnxruntime_ep_example; install a newer one"):
            find_providers(["ExampleProvider"])


@takes_plugins
class TestDevices:
    """Those of machines that are not here."""

    @pytest.fixture
    def gpus(self, monkeypatch):
        def device(provider, kind, vendor):
            hardware = SimpleNamespace(type=getattr(ort.OrtHardwareDeviceType, kind), vendor_id=vendor)
            return SimpleNamespace(ep_name=provider, device=hardware)

        found = [
            device("CPUExecutionProvider", "CPU", 0),
            device("CUDAExecutionProvider", "GPU", 0x10DE),
            device("ExampleProvider", "GPU", 0x10DE),
            device("ExampleProvider", "GPU", 0x1002),
            device("ExampleProvider", "NPU", 0x8086),
        ]
        monkeypatch.setattr(ort, "get_ep_devices", lambda: found)
        return found

    @pytest.mark.parametrize(("number", "kind"), [(0, "cuda"), (1, "gpu"), (2, "npu")])
    def test_are_counted_as_onnx_runtime_does(self, gpus, number, kind):
        device = plugin_device("ExampleProvider", number)
        assert (device, kind_of(device)) == (gpus[2 + number], kind)

    @pytest.mark.parametrize("provider", ["CPUExecutionProvider", "CUDAExecutionProvider"])
    def test_of_providers_that_come_with_onnx_runtime_are_no_plugins(self, gpus, provider):
        assert plugin_device(provider) is None

    def test_decide_what_a_session_says_of_itself(self, gpus):
        def device(wanted, *names):
            (choice,) = provider_choices(names, device_of(wanted))
            return str(choice.device)

        assert device("cuda:1", "ExampleProvider") == "gpu:1"
        assert device("auto", "ExampleProvider", "CPUExecutionProvider") == "cuda"
        assert device("cuda:1", "CPUExecutionProvider") == "cpu"


@pytest.mark.parametrize("given", ["CPUExecutionProvider", ["CPUExecutionProvider"], [["CPUExecutionProvider", {}]]])
def test_ways_to_name_one(given):
    (choice,) = provider_choices(given, device_of("auto"))
    assert (choice.names, str(choice.device), choice.stream) == (["CPUExecutionProvider"], "cpu", None)


def test_the_guidance_is_followed_by_nvidias_package():
    package = pytest.importorskip(
        "onnxruntime_ep_nv_tensorrt_rtx", reason="onnxruntime-ep-nv-tensorrt-rtx is not installed"
    )
    assert package.__name__.startswith(providers._PACKAGES)
    assert package.get_ep_names() == ["NvTensorRTRTXExecutionProvider"]
    assert package.get_library_path().endswith(".so")


def test_tensorrt_rtx_takes_all_that_onnx_runtime_hands_its_provider(tiny_onnx, tmp_path):
    """The graph without our library and after the optimisations that come before a provider's turn."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install '.[rtx]'")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "handed.onnx")
    ort.InferenceSession(str(tiny_onnx), options, providers=["CPUExecutionProvider"])
    network = trt.Builder(trt.Logger(trt.Logger.ERROR)).create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse((tmp_path / "handed.onnx").read_bytes()), parser.get_error(0).desc()
    assert network.get_output(0).name == "logits"
