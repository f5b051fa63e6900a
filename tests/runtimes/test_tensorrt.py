"""What is checked before an engine is loaded, and the session's face; the GPU and TensorRT are stand-ins."""

import gc
import pickle
import sys
import warnings

import numpy as np
import pytest
from helpers import stand_in_tensorrt

from vimdeploy import flavors
from vimdeploy.artifact import open_artifact
from vimdeploy.errors import ConfigError, InputError, MissingPackageError, ModelFileError
from vimdeploy.gpu import Gpu
from vimdeploy.runtimes.gpu_arrays import GpuArray
from vimdeploy.runtimes.load import load
from vimdeploy.runtimes.tensorrt import session_from_engine

ORIN = Gpu("Orin", "8.7")
RTX = {
    "flavor": "rtx",
    "tensorrt_version": "1.7.1.116",
    "plugin_version": None,
    "device": None,
    "compute_capability": None,
}


@pytest.fixture
def here(cuda, monkeypatch, plugin_library):
    """``here(version=..., gpus=[...])`` sets up the machine and gives its TensorRT."""

    def machine(version="10.3.0", gpus=(ORIN,), architectures=("80-real", "90")):
        trt = stand_in_tensorrt.tensorrt(version, cuda, size=(32, 32))
        for name in ("tensorrt", "tensorrt_rtx"):
            monkeypatch.setitem(sys.modules, name, trt)
        monkeypatch.setattr("vimdeploy.gpu.gpus", lambda: list(gpus))
        plugin_library(*architectures) if architectures else plugin_library(path=None)
        return trt

    return machine


class TestSession:
    def test_runs(self, here, engine_file):
        here()
        with load(engine_file()) as session:
            images = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)
            np.testing.assert_array_equal(session.run(images)["logits"], images.reshape(3, -1)[:, :5])

    def test_answers_by_the_recipe_and_labels_of_the_model(self, here, engine_file, picture):
        here()
        (answer,) = load(engine_file()).predict([picture])
        assert {prediction.label for prediction in answer.predictions} == {"ant", "bee", "cat", "dog", "eel"}

    def test_a_shape_that_the_model_does_not_take_is_refused_before_the_engine_sees_it(self, here, cuda, engine_file):
        here()
        session = load(engine_file())
        before = len(cuda.calls)
        with pytest.raises(InputError, match=r"Wanted images \(batch, 3, 32, 32\) of float32"):
            session.run(np.zeros((1, 3, 16, 16), np.float32))
        assert len(cuda.calls) == before

    @pytest.mark.parametrize(
        ("fields", "version", "description"),
        [({}, "10.3.0", "TensorRT (plugin, cuda)"), (RTX, "1.7.1.116", "TensorRT (function body, cuda)")],
    )
    def test_says_what_computes(self, here, engine_file, fields, version, description):
        here(version)
        assert load(engine_file(**fields)).description == description

    def test_is_pickled_as_its_file_and_options(self, here, engine_file, picture):
        here()
        session = load(engine_file())
        data = pickle.dumps(session)
        assert len(data) < 1000
        here()  # a stand-in holds one engine
        assert pickle.loads(data).predict(picture).document() == session.predict(picture).document()

    def test_a_closed_one_says_so(self, here, engine_file):
        here()
        session = load(engine_file())
        session.close()
        session.close()
        with pytest.raises(ConfigError, match="The session was closed"):
            session.run(np.zeros((1, 3, 32, 32), np.float32))

    def test_one_that_is_dropped_gives_its_memory_back(self, here, cuda, engine_file):
        here()
        session = load(engine_file())
        assert "free" not in cuda.names()
        del session
        gc.collect()
        assert cuda.names()[-4:] == ["free context", "free", "free engine", "free runtime"]


class TestOnTheGpu:
    """What a library has in the GPU's memory, which is the CPU's here."""

    @pytest.fixture
    def session(self, here, engine_file):
        here()
        with load(engine_file()) as session:
            yield session

    def test_stays_there(self, session, cuda):
        images = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)
        logits = session.run(cuda.array(images))["logits"]
        assert type(logits) is GpuArray
        np.testing.assert_array_equal(logits.numpy(), images.reshape(3, -1)[:, :5])
        for outputs in (logits, {"logits": logits}):
            assert session.run(cuda.array(images), outputs=outputs, stream=5)["logits"] is logits

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (
                np.zeros((1, 3, 16, 16), np.float32),
                r"Wanted images \(batch, 3, 32, 32\) of float32.* found \(1, 3, 16, 16\)",
            ),
            (np.zeros((1, 3, 32, 32), np.uint8), r"found \(1, 3, 32, 32\) of uint8"),
        ],
    )
    def test_what_the_model_does_not_take(self, session, cuda, array, message):
        with pytest.raises(InputError, match=message):
            session.run(cuda.array(array))
        assert "execute" not in cuda.names()

    def test_outputs_that_are_not_there(self, session, cuda):
        with pytest.raises(InputError, match="Wanted arrays on cuda, found a ndarray that is not there; move it first"):
            session.run(cuda.array(np.zeros((1, 3, 32, 32), np.float32)), outputs=np.zeros((1, 5), np.float32))

    def test_a_stream_that_is_none(self, session, cuda):
        with pytest.raises(InputError, match="Wanted a CUDA stream or its handle, found 'first'"):
            session.run(cuda.array(np.zeros((1, 3, 32, 32), np.float32)), stream="first")

    @pytest.mark.parametrize("option", ["outputs", "stream"])
    def test_options_that_are_not_for_what_the_cpu_has(self, session, option):
        with pytest.raises(InputError, match="outputs and stream are for inputs that are on the GPU of the session"):
            session.run(np.zeros((1, 3, 32, 32), np.float32), **{option: {}})

    def test_on_the_second_gpu(self, here, cuda, engine_file):
        here(gpus=[ORIN, ORIN])
        with load(engine_file(), device="cuda:1") as session:
            array = np.zeros((1, 3, 32, 32), np.float32)
            given = GpuArray(array.ctypes.data, array.shape, array.dtype, 0, array)
            with pytest.raises(InputError, match="Wanted arrays on cuda:1, found one on cuda; move it there first"):
                session.run(given)


class TestContexts:
    def test_each_takes_memory(self, here, engine_file):
        here()
        with load(engine_file(), contexts=1) as session:
            assert session.bytes_per_context == stand_in_tensorrt.WORKING_MEMORY + 8 * (3 * 32 * 32 + 5) * 4

    @pytest.mark.parametrize("contexts", [0, 65])
    def test_no_such_number(self, here, engine_file, contexts):
        here()
        with pytest.raises(ConfigError, match=f"contexts must be from 1 to 64, found {contexts}"):
            load(engine_file(), contexts=contexts)


class TestPlugin:
    def test_is_loaded_once_a_process(self, here, engine_file, tmp_path):
        trt = here()
        load(engine_file())
        flavors.load_plugins(trt, trt.registry, "1", "8.7")
        assert trt.registry.loaded == [str(tmp_path / "plugin.so")]

    def test_of_a_version_compatible_engine_is_the_runtimes_own(self, here, engine_file, tmp_path):
        """Also after a build in the same process, which has put them into TensorRT's registry."""
        trt = here("10.7.0")
        flavors.load_plugins(trt, trt.registry, "1", "8.7")
        load(engine_file(version_compatible=True), allow_engine_code=True)
        assert trt.runtime_registry.loaded == [str(tmp_path / "plugin.so")]
        assert trt.runtime_registry.parent_search_enabled

    @pytest.mark.parametrize(
        ("architectures", "capability", "covered"),
        [
            (("87-real",), "8.7", True),
            (("90-real", "100", "110-real", "120"), "11.0", True),
            (("90-real", "100", "120"), "11.0", True),  # by PTX
            (("90-real", "100-real", "120"), "11.0", False),
            (("87-real",), "9.0", False),
        ],
    )
    def test_must_have_kernels_for_the_gpu(self, here, cuda, engine_file, architectures, capability, covered):
        here(gpus=[Gpu("Orin", capability)], architectures=architectures)
        path = engine_file(compute_capability=capability)
        if covered:
            load(path)
            return
        with pytest.raises(ConfigError) as error:
            load(path)
        assert str(error.value) == (
            f"The TensorRT plugin library has CUDA kernels for {', '.join(architectures)}, wanted were some for "
            f"compute capability {capability}; install vimdeploy again where CUDA's compiler nvcc is."
        )
        assert "deserialize" not in cuda.names()

    def test_is_not_wanted_by_function_bodies(self, here, engine_file):
        trt = here("1.7.1.116", architectures=())
        load(engine_file(**RTX))
        assert trt.registry.loaded == []

    def test_nor_where_the_engine_carries_it(self, here, engine_file):
        trt = here(architectures=())
        load(engine_file(plugin_in_engine=True), allow_engine_code=True)
        assert trt.registry.loaded == []

    def test_a_missing_library(self, here, engine_file):
        here(architectures=())
        with pytest.raises(ConfigError, match=r"library, libvimdeploy_tensorrt\.so, is not in this installation"):
            load(engine_file())

    def test_a_library_of_another_version(self, here, engine_file):
        here()
        with pytest.raises(ConfigError, match="does not bring version 2 of our plugins to this TensorRT"):
            load(engine_file(plugin_version="2"))


class TestVersion:
    @pytest.mark.parametrize(
        ("built", "version"), [("10.3.0", "10.3.0"), ("10.3.0", "10.3.0.26"), ("10.3.0.26", "10.3.0")]
    )
    def test_of_the_same_release_fits(self, here, engine_file, built, version):
        here(version)
        load(engine_file(tensorrt_version=built))

    @pytest.mark.parametrize("version", ["10.3.1", "10.7.0", "11.0.0", "10.0.1"])
    def test_of_another_release_does_not(self, here, cuda, engine_file, version):
        here(version)
        with pytest.raises(ModelFileError, match=rf"built by tensorrt 10\.3\.0, here is {version}; build it again"):
            load(engine_file())
        assert "deserialize" not in cuda.names()

    @pytest.mark.parametrize(("version", "fits"), [("10.7.0", True), ("11.1.0", True), ("10.0.1", False)])
    def test_a_version_compatible_engine_fits_newer_ones(self, here, engine_file, version, fits):
        here(version)
        path = engine_file(version_compatible=True)
        if fits:
            load(path, allow_engine_code=True)
        else:
            with pytest.raises(ModelFileError, match="here is"):
                load(path, allow_engine_code=True)


class TestGpu:
    @pytest.mark.parametrize(
        ("fields", "capability", "wanted"),
        [
            ({}, "8.7", None),
            ({}, "8.6", "8.7"),
            ({}, "9.0", "8.7"),
            ({"hardware_compatibility": "same_compute_capability"}, "8.7", None),
            ({"hardware_compatibility": "same_compute_capability"}, "8.9", "8.7"),
            ({"hardware_compatibility": "ampere_plus"}, "12.0", None),
            ({"hardware_compatibility": "ampere_plus"}, "7.5", "8.0 or newer"),
            (RTX, "8.6", None),
            (RTX, "10.0", None),
            (RTX, "7.5", "8.0 or newer"),
        ],
    )
    def test_that_the_engine_fits(self, here, cuda, engine_file, fields, capability, wanted):
        here(fields.get("tensorrt_version", "10.3.0"), gpus=[Gpu("Orin", capability)])
        path = engine_file(**fields)
        if wanted is None:
            load(path)
        else:
            with pytest.raises(ModelFileError, match=rf"capability {wanted}, here is Orin with {capability}"):
                load(path)
            assert "deserialize" not in cuda.names()

    @pytest.mark.parametrize("fields", [{}, {"hardware_compatibility": "ampere_plus"}])
    def test_another_model_of_the_same_capability_is_told(self, here, engine_file, fields):
        here(gpus=[Gpu("Orin Nano", "8.7")])
        with warnings.catch_warnings(record=True) as told:
            load(engine_file(**fields))
        said = "The engine was tuned for Orin, here is Orin Nano: it may be slower, or fail, as TensorRT says; build"
        assert [str(warning.message).startswith(said) for warning in told] == ([] if fields else [True])

    def test_the_second_one(self, here, engine_file):
        here(gpus=[Gpu("old", "7.5"), Gpu("Orin", "8.7")])
        assert load(engine_file(), device="cuda:1").device == "cuda:1"

    def test_one_that_is_not_there(self, here, engine_file):
        here()
        with pytest.raises(ConfigError, match=r"found no GPU cuda:1, but cuda:0 \(Orin\)"):
            load(engine_file(), device="cuda:1")

    def test_none(self, here, engine_file, monkeypatch):
        def none():
            raise ConfigError("no NVIDIA driver (libcuda.so.1)")

        here()
        monkeypatch.setattr("vimdeploy.gpu.gpus", none)
        with pytest.raises(ConfigError, match=r"^An engine needs an NVIDIA GPU; found no NVIDIA driver \(libcuda"):
            load(engine_file())


class TestCode:
    """An engine may carry code that does whatever this process may do."""

    @pytest.mark.parametrize("fields", [{"plugin_in_engine": True}, {"version_compatible": True}])
    def test_wants_to_be_allowed(self, here, cuda, engine_file, fields):
        here()
        with pytest.raises(ConfigError, match=r"carries code .* if you trust who built it, .* --allow-engine-code"):
            load(engine_file(**fields))
        assert cuda.calls == []

    @pytest.mark.parametrize("allowed", [False, True])
    def test_is_never_allowed_unasked(self, here, cuda, engine_file, allowed):
        here()
        load(engine_file(), allow_engine_code=allowed)
        assert ("deserialize", b"a plan", allowed) in cuda.calls


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"device": "cpu"}, "An engine runs on a GPU: device must be auto or cuda, found 'cpu'"),
            ({"threads": 2}, "An engine runs on a GPU: it takes no threads"),
            ({"operators": "library"}, "computes our operators by plugin; 'library' is not in it"),
        ],
    )
    def test_that_an_engine_does_not_have(self, here, engine_file, options, message):
        here()
        with pytest.raises(ConfigError, match=message):
            session_from_engine(open_artifact(engine_file()), **options)

    @pytest.mark.parametrize("options", [{"device": "cuda"}, {"operators": "plugin"}])
    def test_that_it_has(self, here, engine_file, options):
        here()
        assert session_from_engine(open_artifact(engine_file()), **options).device == "cuda"

    @pytest.mark.parametrize("operators", ["function-body", "function body"])
    def test_function_bodies_in_both_spellings(self, here, engine_file, operators):
        here("1.7.1.116")
        assert load(engine_file(**RTX), operators=operators).operators == "function body"

    def test_no_tensorrt(self, engine_file, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(MissingPackageError, match=r"pip install '.*\[tensorrt\]'"):
            load(engine_file())
