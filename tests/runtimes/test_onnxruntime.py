import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

import vimdeploy
from vimdeploy import libraries
from vimdeploy.artifact import ModelInfo
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError
from vimdeploy.gpu import Gpu
from vimdeploy.runtimes import cuda_provider, operator_library
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession, operators_elsewhere, session_from_onnx


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)


class TestAnswers:
    def test_are_pytorchs(self, tiny_onnx, tiny_model, images, operators):
        wanted = tiny_model(torch.from_numpy(images)).detach().numpy()
        found = session_from_onnx(tiny_onnx, operators=operators).run(images)
        np.testing.assert_allclose(found, wanted, atol=1e-4 * wanted.std())

    @pytest.mark.parametrize("batch", [1, 2, 5])
    def test_do_not_depend_on_the_batch(self, tiny_onnx, operators, batch, images):
        session = session_from_onnx(tiny_onnx, operators=operators)
        many = session.run(np.repeat(images[:1], batch, axis=0))
        np.testing.assert_allclose(many, np.repeat(session.run(images[:1]), batch, axis=0), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_do_not_depend_on_the_threads(self, tiny_onnx, operators, threads, images):
        found = session_from_onnx(tiny_onnx, operators=operators, threads=threads).run(images)
        wanted = session_from_onnx(tiny_onnx, operators=operators).run(images)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)

    def test_are_the_same_from_a_file_and_from_memory(self, tiny, tiny_onnx, operators, images):
        info = ModelInfo("tiny", tiny.config)
        from_memory = OnnxRuntimeSession(tiny_onnx.read_bytes(), info, operators=operators)
        np.testing.assert_array_equal(
            from_memory.run(images), session_from_onnx(tiny_onnx, operators=operators).run(images)
        )

    def test_of_a_picture(self, tiny_onnx, operators, picture):
        (answer,) = vimdeploy.load(tiny_onnx, operators=operators).classify([picture], top=3)
        probabilities = [prediction.probability for prediction in answer]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1


class TestOperators:
    def test_the_session_says_what_computes(self, tiny_onnx, operators):
        session = session_from_onnx(tiny_onnx, operators=operators)
        assert (session.operators, session.description) == (operators, f"OnnxRuntime ({operators}, cpu)")

    def test_auto_is_the_library_where_it_is_installed(self, tiny_onnx):
        assert session_from_onnx(tiny_onnx).operators == "library"

    def test_auto_is_the_function_body_otherwise(self, tiny_onnx, monkeypatch):
        monkeypatch.setattr(libraries, "library_path", lambda: None)
        assert session_from_onnx(tiny_onnx).operators == "function body"

    def test_a_missing_library_says_what_to_do(self, tiny_onnx, monkeypatch):
        monkeypatch.setattr(libraries, "library_path", lambda: None)
        with pytest.raises(ConfigError, match="not in this installation of vimdeploy; install it again where a C"):
            session_from_onnx(tiny_onnx, operators="library")

    def test_a_library_that_is_none(self, tiny_onnx, tmp_path, monkeypatch):
        broken = tmp_path / "libvimdeploy_onnxruntime.so"
        broken.write_bytes(b"not a library")
        monkeypatch.setattr(libraries, "library_path", lambda: broken)
        with pytest.raises(ConfigError, match=r"libvimdeploy_onnxruntime\.so cannot be loaded"):
            session_from_onnx(tiny_onnx, operators="library")


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"operators": "kernels"}, "operators must be one of auto, library, function body, found 'kernels'"),
            ({"device": "tpu"}, "device must be one of auto, cpu, cuda, found 'tpu'"),
            ({"threads": 0}, "threads must be at least 1, found 0"),
            ({"providers": ["NoSuchProvider"]}, "has no NoSuchProvider; it has: .*CPUExecutionProvider"),
        ],
    )
    def test_that_are_none(self, tiny_onnx, options, message):
        with pytest.raises(ConfigError, match=message):
            vimdeploy.load(tiny_onnx, **options)

    def test_no_plan_of_tensors_is_held_beside_those_of_the_first_call(self, tiny_onnx):
        assert not vimdeploy.load(tiny_onnx, device="cpu")._session.get_session_options().enable_mem_pattern

    def test_providers(self, tiny_onnx, images):
        session = vimdeploy.load(tiny_onnx, providers=["CPUExecutionProvider"])
        assert session.run(images).shape == (3, 5)


class TestDevice:
    @pytest.fixture
    def gpu(self, monkeypatch):
        """A GPU, but an ONNX Runtime that cannot use it."""
        for module in (cuda_provider, operator_library):
            monkeypatch.setattr(module, "gpus", lambda: [Gpu("NVIDIA Example", "9.0")])

    @pytest.mark.parametrize("device", ["auto", "cpu"])
    def test_without_a_gpu(self, tiny_onnx, device):
        assert vimdeploy.load(tiny_onnx, device=device).device == "cpu"

    def test_cuda_without_a_gpu(self, tiny_onnx, operators):
        with pytest.raises(ConfigError, match=r"^Wanted device cuda, found no GPU in the tests; use device cpu\.$"):
            vimdeploy.load(tiny_onnx, device="cuda", operators=operators)

    def test_auto_is_the_cpu_where_onnx_runtime_cannot_use_the_gpu(self, tiny_onnx, gpu, images):
        session = vimdeploy.load(tiny_onnx)
        assert session.description == "OnnxRuntime (library, cpu)"
        assert session.run(images).shape == (3, 5)

    def test_a_silent_fall_back_is_refused(self, tiny_onnx, gpu, monkeypatch):
        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
        with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(ConfigError, match="cannot start"):
            vimdeploy.load(tiny_onnx, device="cuda", operators="function body")

    @pytest.mark.skipif(
        not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"),
        reason="ONNX Runtime is older than 1.24",
    )
    def test_onnx_runtime_tells_where_our_operators_run(self, tiny_onnx):
        session = vimdeploy.load(tiny_onnx, operators="library")._session
        assert operators_elsewhere(session, "CPUExecutionProvider") == []
        assert len(operators_elsewhere(session, "CUDAExecutionProvider")) == 4


class TestFiles:
    def test_of_others(self, foreign_onnx):
        with pytest.raises(ModelFileError, match="vimdeploy did not make it"):
            vimdeploy.load(foreign_onnx)

    def test_a_truncated_file(self, tmp_path, tiny_onnx):
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny_onnx.read_bytes()[:-100])
        with pytest.raises(ModelFileError):
            vimdeploy.load(path)

    def test_a_text_file(self, tmp_path):
        path = tmp_path / "model.onnx"
        path.write_text("not a model")
        with pytest.raises(ModelFileError):
            vimdeploy.load(path)

    def test_a_model_that_onnx_runtime_refuses(self, tiny, tiny_proto):
        broken = type(tiny_proto).FromString(tiny_proto.SerializeToString())
        broken.graph.node[0].op_type = "NoSuchOperator"
        with pytest.raises(ModelFileError, match=r"ONNX Runtime refuses the model: .*NoSuchOperator"):
            OnnxRuntimeSession(broken.SerializeToString(), ModelInfo("tiny", tiny.config))

    def test_a_model_that_fails_at_work_tells_the_operators_sentence(self, tiny, tiny_proto, images):
        broken = type(tiny_proto).FromString(tiny_proto.SerializeToString())
        del broken.graph.value_info[:]
        dt_bias = next(i for i in broken.graph.initializer if i.name.endswith("dt_bias"))
        dt_bias.CopyFrom(numpy_helper.from_array(np.zeros((2, 3), np.float32), dt_bias.name))
        session = OnnxRuntimeSession(broken.SerializeToString(), ModelInfo("tiny", tiny.config), operators="library")
        with pytest.raises(
            ExecutionError, match=r"batch of 3: .*dt_bias has shape \(2, 3\), wanted \(K, E\) = \(2, 32\)"
        ):
            session.run(images)
