"""Real engines of TensorRT-RTX, which builds without a GPU; for TensorRT, what is asked of it, on stand-ins."""

import dataclasses
import signal
import sys
import threading
import time
from types import SimpleNamespace

import onnx
import pytest
from helpers import stand_in_tensorrt

from vimdeploy.artifact import open_artifact
from vimdeploy.engine_file import sha256_of
from vimdeploy.errors import ConfigError, ExecutionError, MissingPackageError, ModelFileError
from vimdeploy.exporters import tensorrt_engine
from vimdeploy.exporters.tensorrt_engine import BuildOptions, engine_from_onnx
from vimdeploy.exporters.tensorrt_network import network_sha256, weights_of
from vimdeploy.flavors import collecting_logger
from vimdeploy.gpu import Gpu
from vimdeploy.model_info import SizeRange, TensorSpec


class TestOptions:
    @pytest.mark.parametrize("batch", [(1, 1, 1), (1, 8, 32), (2, 4, 4)])
    def test_batch(self, batch):
        assert BuildOptions(shapes={"batch": batch}).shapes == {"batch": batch}

    @pytest.mark.parametrize("batch", [(4, 2, 8), (1, 9, 8), (0, 1, 8), (2, 1, 1)])
    def test_a_batch_that_is_none(self, batch):
        for options in ({"shapes": {"batch": batch}}, {"profiles": [{"batch": (1, 1, 1)}, {"batch": batch}]}):
            with pytest.raises(ConfigError, match=r"must be MIN <= OPT <= MAX, MIN at least 1; found \d,\d,\d"):
                BuildOptions(**options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"flavor": "lean"}, "flavor must be one of tensorrt, rtx, found 'lean'"),
            ({"hardware_compatibility": "turing"}, "must be one of none, ampere_plus, .*, found 'turing'"),
            ({"plugin_in_engine": True}, "plugins into version-compatible engines only: ask for both"),
            ({"flavor": "rtx", "version_compatible": True}, "are flavour tensorrt's"),
            ({"flavor": "rtx", "refittable": True}, "that take other weights are flavour tensorrt's"),
            ({"refittable": True, "profiles": [{"batch": (1, 1, 1)}, {}]}, "has one profile alone; leave the others"),
            ({"flavor": "rtx", "hardware_compatibility": "ampere_plus"}, "are flavour tensorrt's"),
        ],
    )
    def test_that_do_not_go_together(self, options, message):
        with pytest.raises(ConfigError, match=message):
            BuildOptions(**options)


class TestBounds:
    """Bounds of files of any size."""

    def profiles(self, tiny_info, *profiles, most=None, **shapes):
        sizes = {"height": SizeRange(16, most, 8, typical=32), "width": SizeRange(16, most, 8, typical=32)}
        images = TensorSpec("images", ("batch", 3, "height", "width"))
        info = dataclasses.replace(tiny_info, inputs=(images,), sizes=sizes)
        bounds = tensorrt_engine._bounds(info, BuildOptions(shapes=shapes, profiles=profiles))
        self.fixed = tensorrt_engine._fixed(bounds)
        return [tensorrt_engine._profile(info, words)["images"] for words in bounds]

    def profile(self, tiny_info, most=None, **shapes):
        (found,) = self.profiles(tiny_info, most=most, **shapes)
        return found

    def test_as_asked(self, tiny_info):
        found = self.profile(tiny_info, batch=(2, 2, 2), height=(16, 32, 64), width=(24, 24, 24))
        assert found == ((2, 3, 16, 24), (2, 3, 32, 24), (2, 3, 64, 24))
        assert self.fixed == {"batch": 2, "width": 24}

    def test_several_profiles(self, tiny_info):
        profiles = ({"batch": (1, 1, 1)}, {"batch": (8, 8, 8), "height": (16, 16, 16)})
        found = self.profiles(tiny_info, *profiles, height=(16, 32, 64), width=(24, 24, 24))
        assert found == [
            ((1, 3, 16, 24), (1, 3, 32, 24), (1, 3, 64, 24)),
            ((8, 3, 16, 24), (8, 3, 16, 24), (8, 3, 16, 24)),
        ]
        assert self.fixed == {"width": 24}

    def test_two_profiles_that_are_the_same(self, tiny_info):
        with pytest.raises(ConfigError, match=r"profiles are the same \(batch 1,1,8, height 16,.*\); leave one out"):
            self.profiles(tiny_info, {"batch": (1, 1, 8)}, {}, most=64)

    def test_unasked_those_of_the_file(self, tiny_info):
        assert self.profile(tiny_info, most=64) == ((1, 3, 16, 16), (1, 3, 32, 32), (8, 3, 64, 64))

    def test_a_file_without_bounds_needs_some(self, tiny_info):
        with pytest.raises(
            ConfigError, match=r"takes any height \(16 or more in steps of 8\), .* --shape height=16,32,64"
        ):
            self.profile(tiny_info)
        with pytest.raises(ConfigError, match="takes any width"):
            self.profile(tiny_info, height=(32, 32, 32))

    def test_a_size_that_the_file_does_not_take(self, tiny_info):
        with pytest.raises(ConfigError, match="Wanted a height of 16 to 64 in steps of 8, found 21; the nearest is 24"):
            self.profile(tiny_info, most=64, height=(21, 32, 64))

    def test_a_dimension_that_is_not_free(self, tiny_info):
        with pytest.raises(ConfigError, match="no free dimension tokens; it has batch, height, width"):
            self.profile(tiny_info, tokens=(1, 2, 3))
        with pytest.raises(ConfigError, match="no free dimension tokens; it has batch, height, width"):
            self.profiles(tiny_info, {"batch": (1, 1, 1)}, {"tokens": (1, 2, 3)}, most=64)


@pytest.fixture(scope="module")
def phases():
    return []


@pytest.fixture(scope="module")
def built(tiny_onnx, phases):
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("polygraphy")
    options = BuildOptions("rtx", shapes={"batch": (1, 2, 5)}, workspace_bytes=1 << 28, optimization_level=0)
    return engine_from_onnx(open_artifact(tiny_onnx), options, progress=lambda *arguments: phases.append(arguments))


class TestRtx:
    def test_is_a_plan(self, built):
        assert built.plan[1:4] == b"trt"
        assert (built.info.engine_sha256, built.info.engine_bytes) == (sha256_of(built.plan), len(built.plan))

    def test_says_what_it_was_built_from(self, built, tiny_onnx):
        assert built.info.onnx_sha256 == sha256_of(tiny_onnx.read_bytes())
        assert built.info.model == open_artifact(tiny_onnx).info

    def test_says_what_it_may_run_on(self, built):
        import tensorrt_rtx

        info = built.info
        assert (info.flavor, info.tensorrt_version) == ("rtx", tensorrt_rtx.__version__)
        assert (info.device, info.compute_capability, info.operators) == (None, None, "function body")
        assert info.profiles == ({"images": ((1, 3, 32, 32), (2, 3, 32, 32), (5, 3, 32, 32))},)

    def test_a_fixed_batch_is_read_from_the_graph(self, tiny_onnx, tmp_path):
        pytest.importorskip("tensorrt_rtx")
        model = onnx.load(tiny_onnx)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 3
        onnx.save(model, tmp_path / "fixed.onnx")
        options = BuildOptions("rtx", optimization_level=0)
        info = engine_from_onnx(open_artifact(tmp_path / "fixed.onnx"), options).info
        assert info.profiles == ({"images": ((3, 3, 32, 32),) * 3},)

    def test_several_profiles(self, tiny_onnx):
        pytest.importorskip("tensorrt_rtx")
        profiles = ({"batch": (1, 1, 1)}, {"batch": (4, 8, 8)})
        options = BuildOptions("rtx", profiles=profiles, optimization_level=0)
        info = engine_from_onnx(open_artifact(tiny_onnx), options).info
        assert [[shape[0] for shape in profile["images"]] for profile in info.profiles] == [[1, 1, 1], [4, 8, 8]]

    def test_tells_its_phases(self, built, phases):
        assert phases[0][0] == "Building engine"
        assert phases[-1][1] == phases[-1][2]

    def test_has_no_timing_cache(self, tiny_onnx):
        with pytest.raises(ConfigError, match="TensorRT-RTX times nothing while it builds, so it has no timing cache"):
            engine_from_onnx(open_artifact(tiny_onnx), BuildOptions("rtx"), timing_cache=b"")

    def test_an_operator_that_the_parser_does_not_know(self, tiny_onnx, tmp_path):
        pytest.importorskip("tensorrt_rtx")
        model = open_artifact(tiny_onnx).model
        model.graph.node[0].op_type, model.graph.node[0].domain = "NoSuchOperator", "vimdeploy"
        onnx.save(model, tmp_path / "strange.onnx")
        with pytest.raises(
            ModelFileError,
            match=r"The parser of TensorRT 1\.\d.* refuses the model: node .*NoSuchOperator.*Plugin not found",
        ):
            engine_from_onnx(open_artifact(tmp_path / "strange.onnx"), BuildOptions("rtx"))

    def test_a_layer_report_needs_a_gpu(self, tiny_onnx, monkeypatch):
        pytest.importorskip("tensorrt_rtx")
        without_gpu(monkeypatch)
        with pytest.raises(ConfigError, match="layer report of an engine needs an NVIDIA GPU; found no driver; leave"):
            engine_from_onnx(open_artifact(tiny_onnx), BuildOptions("rtx", layer_report=True))

    def test_a_process_builds_one_flavour(self, built):
        with pytest.raises(ConfigError, match="one flavour of TensorRT per process; build the other one in another"):
            tensorrt_engine._polygraphy("tensorrt")


class TestInterrupt:
    """Ctrl-C reaches this thread while another one builds."""

    @pytest.fixture(autouse=True)
    def heeded(self):
        """A shell that runs the tests in the background has them ignore it."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def test_cancels_the_build_and_waits_for_it(self):
        cancelled, done = threading.Event(), threading.Event()

        def build(network, config):
            time.sleep(0.2)  # until the other thread waits
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert cancelled.wait(30)
            time.sleep(0.1)
            done.set()

        polygraphy = SimpleNamespace(engine_bytes_from_network=build)
        monitor = SimpleNamespace(cancel=cancelled.set)
        with pytest.raises(KeyboardInterrupt):
            tensorrt_engine._build(polygraphy, None, None, monitor, None)
        assert done.is_set()

    def test_a_builder_that_gives_up_tells_its_first_error(self):
        logger = collecting_logger(stand_in_tensorrt.tensorrt())
        logger.errors += ["Could not find any implementation for node 3", "Engine build failed"]
        polygraphy = SimpleNamespace(engine_bytes_from_network=lambda network, config: 1 / 0)
        with pytest.raises(ExecutionError, match="TensorRT gave up building the engine: Could not find any impl"):
            tensorrt_engine._build(polygraphy, None, None, None, logger)


def without_gpu(monkeypatch):
    def none():
        raise ConfigError("no driver")

    monkeypatch.setattr(tensorrt_engine, "gpus", none)


class Polygraphy:
    """A stand-in for polygraphy.backend.trt, which is a real one's only in a process of flavour tensorrt."""

    def __init__(self):
        self.flags = []
        self.config = SimpleNamespace(
            create_timing_cache=lambda data: data,
            set_timing_cache=lambda cache, ignore_mismatch: cache in (b"", b"old cache") and not ignore_mismatch,
            set_flag=lambda flag: self.flags.append(flag),
            get_timing_cache=lambda: SimpleNamespace(serialize=lambda: b"new cache"),
        )

    class Profile:
        def add(self, name, *shapes):
            self.shapes = {name: shapes}
            return self

    def create_config(self, builder, network, **options):
        self.options = options
        return self.config

    def engine_bytes_from_network(self, network, config):
        return b"ftrt"


class TestTensorRT:
    @pytest.fixture
    def polygraphy(self, monkeypatch):
        stand_in = Polygraphy()
        monkeypatch.setattr(tensorrt_engine, "_polygraphy", lambda flavor: stand_in)
        return stand_in

    @pytest.fixture
    def trt(self, monkeypatch, polygraphy, plugin_library):
        trt = stand_in_tensorrt.tensorrt("10.3.0")
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setattr(tensorrt_engine, "gpus", lambda: [Gpu("Orin", "8.7"), Gpu("other", "9.0")])
        path = plugin_library("87-real")
        monkeypatch.setattr(tensorrt_engine, "library_path", lambda runtime: path)
        return trt

    def test_the_engine_says_where_it_was_built(self, trt, tiny_onnx):
        built = engine_from_onnx(open_artifact(tiny_onnx), BuildOptions(shapes={"batch": (1, 4, 16)}))
        info = built.info
        assert (info.device, info.compute_capability, info.plugin_version) == ("Orin", "8.7", "1")
        assert [shape[0] for shape in info.profiles[0]["images"]] == [1, 4, 16]
        assert (built.plan, built.timing_cache, built.layers) == (b"ftrt", None, None)

    def test_the_plugin_is_loaded_before_the_parser_looks_for_it(self, trt, tiny_onnx, tmp_path):
        engine_from_onnx(open_artifact(tiny_onnx), BuildOptions())
        assert trt.registry.loaded == [str(tmp_path / "plugin.so")]

    def test_every_option_reaches_tensorrt(self, trt, polygraphy, tiny_onnx, tmp_path):
        options = BuildOptions(
            workspace_bytes=1 << 29,
            optimization_level=4,
            version_compatible=True,
            hardware_compatibility="ampere_plus",
            plugin_in_engine=True,
        )
        info = engine_from_onnx(open_artifact(tiny_onnx), options).info
        given = polygraphy.options
        assert given["memory_pool_limits"] == {trt.MemoryPoolType.WORKSPACE: 1 << 29}
        assert (given["builder_optimization_level"], given["version_compatible"]) == (4, True)
        assert given["hardware_compatibility_level"] is trt.HardwareCompatibilityLevel.AMPERE_PLUS
        assert polygraphy.config.plugins_to_serialize == [str(tmp_path / "plugin.so")]
        assert (info.plugin_in_engine, info.version_compatible, info.carries_code) == (True, True, True)

    def test_every_profile_reaches_tensorrt(self, trt, polygraphy, tiny_onnx):
        profiles = ({"batch": (1, 1, 1)}, {"batch": (8, 32, 32)})
        engine_from_onnx(open_artifact(tiny_onnx), BuildOptions(profiles=profiles))
        found = [profile.shapes["images"] for profile in polygraphy.options["profiles"]]
        assert [[shape[0] for shape in shapes] for shapes in found] == [[1, 1, 1], [8, 32, 32]]
        assert trt.parsed.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"

    def test_a_batch_of_one_size_is_fixed_in_the_network(self, trt, tiny_onnx):
        engine_from_onnx(open_artifact(tiny_onnx), BuildOptions(shapes={"batch": (8, 8, 8)}))
        assert trt.parsed.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 8

    def test_an_engine_that_takes_other_weights(self, trt, polygraphy, tiny_onnx):
        artifact = open_artifact(tiny_onnx)
        info = engine_from_onnx(artifact, BuildOptions(refittable=True)).info
        assert (info.network_sha256, trt.marked) == (network_sha256(artifact.model), list(weights_of(artifact.model)))
        assert polygraphy.flags == [trt.BuilderFlag.REFIT_INDIVIDUAL]

    def test_of_an_int8_file_it_cannot(self, trt, tiny_onnx):
        artifact = open_artifact(tiny_onnx)
        artifact.info = dataclasses.replace(artifact.info, precision="int8")
        with pytest.raises(ConfigError, match="An int8 file's scales are part of its network"):
            engine_from_onnx(artifact, BuildOptions(refittable=True))

    def test_unasked_tensorrt_decides(self, trt, polygraphy, tiny_onnx):
        engine_from_onnx(open_artifact(tiny_onnx), BuildOptions())
        given = polygraphy.options
        assert (polygraphy.flags, trt.marked) == ([], [])
        unset = ("memory_pool_limits", "builder_optimization_level", "hardware_compatibility_level")
        assert [given[name] for name in unset] == [None] * 3
        assert not hasattr(polygraphy.config, "plugins_to_serialize")

    @pytest.mark.parametrize("cache", [b"", b"old cache"])
    def test_a_timing_cache_comes_back(self, trt, tiny_onnx, cache):
        assert (
            engine_from_onnx(open_artifact(tiny_onnx), BuildOptions(), timing_cache=cache).timing_cache == b"new cache"
        )

    @pytest.mark.parametrize("made", [None, b"of another GPU"])
    def test_a_timing_cache_that_tensorrt_refuses(self, trt, polygraphy, tiny_onnx, made):
        polygraphy.config.create_timing_cache = lambda data: made
        with pytest.raises(ConfigError, match="TensorRT refuses the timing cache: it gives no reason; remove the file"):
            engine_from_onnx(open_artifact(tiny_onnx), BuildOptions(), timing_cache=b"something")

    def test_an_option_that_this_version_has_not(self, trt, tiny_onnx):
        trt.HardwareCompatibilityLevel = stand_in_tensorrt.tensorrt(
            HardwareCompatibilityLevel={"SAME_COMPUTE_CAPABILITY"}
        ).HardwareCompatibilityLevel
        with pytest.raises(ConfigError, match=r"TensorRT 10\.3\.0 does not have same_compute_capability yet"):
            engine_from_onnx(open_artifact(tiny_onnx), BuildOptions(hardware_compatibility="same_compute_capability"))

    def test_what_polygraphy_says_is_told(self, trt, polygraphy, tiny_onnx):
        def refuse(*_, **__):
            raise RuntimeError("version_compatible in CreateConfig is not available on TensorRT version 8.5")

        polygraphy.create_config = refuse
        with pytest.raises(
            ConfigError, match=r"TensorRT 10\.3\.0 cannot build that: version_compatible in CreateConfig"
        ):
            engine_from_onnx(open_artifact(tiny_onnx), BuildOptions(version_compatible=True))

    def test_no_gpu(self, trt, tiny_onnx, monkeypatch):
        without_gpu(monkeypatch)
        with pytest.raises(
            ConfigError, match="TensorRT needs an NVIDIA GPU; found no driver; flavour rtx builds without"
        ):
            engine_from_onnx(open_artifact(tiny_onnx), BuildOptions())

    def test_no_kernels_for_the_gpu(self, trt, tiny_onnx, plugin_library):
        plugin_library("75-real", "120")
        with pytest.raises(ConfigError, match=r"The TensorRT plugin library has CUDA kernels for 75-real, 120, wanted"):
            engine_from_onnx(open_artifact(tiny_onnx), BuildOptions(hardware_compatibility="none"))

    def test_no_plugin_library(self, trt, tiny_onnx, plugin_library):
        plugin_library(path=None)
        with pytest.raises(ConfigError, match=r"libvimdeploy_tensorrt\.so, is not in this installation"):
            engine_from_onnx(open_artifact(tiny_onnx), BuildOptions())


@pytest.mark.parametrize(("flavor", "module"), [("tensorrt", "tensorrt"), ("rtx", "tensorrt_rtx")])
def test_a_missing_tensorrt_names_its_extra(tiny_onnx, monkeypatch, flavor, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=rf"pip install '.*\[{flavor}\]'"):
        engine_from_onnx(open_artifact(tiny_onnx), BuildOptions(flavor))
