import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from helpers.precision import lowered

from vimdeploy.artifact import artifact_from_onnx
from vimdeploy.errors import ConfigError, ExecutionError, InputError, MissingPackageError, ModelFileError
from vimdeploy.runtimes import openvino as runtime
from vimdeploy.runtimes.load import load
from vimdeploy.tolerance import tolerance_for

pytest.importorskip("openvino", reason="openvino is not installed")


def images(batch=2, size=(32, 32)):
    return np.random.default_rng(0).standard_normal((batch, 3, *size), dtype=np.float32)


@pytest.fixture(scope="module")
def session(tiny_onnx):
    return load(tiny_onnx, runtime="openvino")


def errors(found, wanted):
    """The largest error of each output, in its standard deviations."""
    return {name: np.abs(found[name] - wanted[name]).max() / wanted[name].std() for name in wanted}


class TestAnswers:
    @pytest.mark.parametrize("batch", [1, 5])
    def test_are_those_of_onnx_runtime_at_any_batch(self, session, tiny_onnx, batch):
        wanted = load(tiny_onnx).run(images(batch))
        found = session.run(images(batch))
        assert (list(found), found["logits"].shape) == (["logits"], (batch, 5))
        assert errors(found, wanted)["logits"] < tolerance_for("fp32").limit

    def test_of_any_size(self, any_size_proto):
        artifact = artifact_from_onnx(any_size_proto)
        session, other = load(artifact, runtime="openvino"), load(artifact)
        for size in ((32, 32), (40, 24)):
            found = errors(session.run(images(1, size)), other.run(images(1, size)))
            assert found.keys() == {spec.name for spec in artifact.info.outputs}
            assert max(found.values()) < tolerance_for("fp32").limit

    def test_of_a_float16_file(self, tiny_proto):
        artifact = artifact_from_onnx(lowered(tiny_proto, "fp16"))
        found = load(artifact, runtime="openvino").run(images())
        assert errors(found, load(artifact).run(images()))["logits"] < 2 * tolerance_for("fp16").limit

    def test_of_a_file_whose_function_bodies_are_gone(self, session, tiny_proto):
        copy = onnx.ModelProto.FromString(tiny_proto.SerializeToString())
        del copy.functions[:]
        found = load(artifact_from_onnx(copy), runtime="openvino").run(images())
        np.testing.assert_array_equal(found["logits"], session.run(images())["logits"])

    def test_of_another_programs_file(self, foreign_onnx):
        session = load(foreign_onnx, runtime="openvino")
        assert session.description == "OpenVINO (cpu)"
        np.testing.assert_array_equal(session.run(np.ones(1, np.float32))["y"], [1])

    def test_to_a_picture(self, session, picture):
        assert {prediction.label for prediction in session.predict(picture).predictions} == {
            "ant",
            "bee",
            "cat",
            "dog",
            "eel",
        }

    def test_are_the_same_from_several_threads_at_once(self, session):
        wanted = session.run(images())["logits"]
        with ThreadPoolExecutor(4) as threads:
            for found in threads.map(session.run, [images()] * 8):
                np.testing.assert_array_equal(found["logits"], wanted)

    def test_are_the_same_in_another_process(self, session):
        again = pickle.loads(pickle.dumps(session))
        assert again.description == session.description
        np.testing.assert_array_equal(again.run(images())["logits"], session.run(images())["logits"])

    def test_on_one_thread(self, session):
        one = session.on_one_thread()
        assert errors(one.run(images()), session.run(images()))["logits"] < tolerance_for("fp32").limit


class TestPrecision:
    def test_is_float32_if_nobody_says(self, session):
        assert (session.description, session.info.precision) == ("OpenVINO (function body, cpu)", "fp32")

    def test_bf16_is_told_and_kept_to(self, session, tiny_onnx):
        core = runtime.import_openvino().Core()
        if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pytest.skip("this processor has no instructions for bf16")
        rounded = load(tiny_onnx, runtime="openvino", precision="bf16")
        assert rounded.description == "OpenVINO (function body, cpu, bf16)"
        assert rounded.info.precision == rounded.on_one_thread().info.precision == "bf16"
        error = errors(rounded.run(images()), session.run(images()))["logits"]
        assert tolerance_for("fp32").limit < error < tolerance_for("bf16").limit

    def test_bf16_is_refused_if_the_processor_has_none(self, tiny_onnx, monkeypatch):
        core = runtime.import_openvino().Core
        monkeypatch.setattr(core, "get_property", lambda *_: ["FP32"])
        with pytest.raises(ConfigError, match="This processor has no instructions for bf16"):
            load(tiny_onnx, runtime="openvino", precision="bf16")


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"device": "cuda"}, "OpenVINO runs on the CPU here: device must be auto or cpu, found 'cuda'"),
            ({"operators": "library"}, "OpenVINO computes by the function bodies: .*, found 'library'"),
            ({"precision": "int4"}, "precision must be one of fp32, bf16, found 'int4'"),
            ({"threads": 0}, "threads must be from 1 to 1024, found 0"),
            ({"providers": ["CPUExecutionProvider"]}, "providers are of ONNX Runtime; OpenVINO is wanted"),
            ({"allow_engine_code": True}, "allow_engine_code is for engines"),
        ],
    )
    def test_options(self, tiny_onnx, options, message):
        with pytest.raises(ConfigError, match=message):
            load(tiny_onnx, runtime="openvino", **options)

    def test_a_model_that_openvino_does_not_know(self, tmp_path):
        value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
        out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
        node = onnx.helper.make_node("Unheard", ["x"], ["y"], domain="nobody")
        opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("nobody", 1)]
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out]), opset_imports=opsets)
        onnx.save(model, tmp_path / "unheard.onnx")
        with pytest.raises(ModelFileError, match=r"OpenVINO refuses .*unheard\.onnx: .*nobody\.Unheard"):
            load(tmp_path / "unheard.onnx", runtime="openvino")

    def test_inputs_of_another_shape(self, session):
        with pytest.raises(InputError, match="images"):
            session.run(images(1, (16, 16)))

    def test_a_run_that_fails(self, tiny_onnx, monkeypatch):
        session = load(tiny_onnx, runtime="openvino")
        monkeypatch.setattr(session, "_compiled", BrokenModel())
        with pytest.raises(ExecutionError, match=r"OpenVINO failed on images \(2, 3, 32, 32\): out of memory"):
            session.run(images())

    def test_a_machine_without_openvino(self, tiny_onnx, monkeypatch):
        monkeypatch.setitem(sys.modules, "openvino", None)
        with pytest.raises(MissingPackageError, match="openvino"):
            load(tiny_onnx, runtime="openvino")


class BrokenModel:
    """A compiled model whose requests fail."""

    def create_infer_request(self):
        return self

    def infer(self, inputs, share_inputs):
        raise RuntimeError("out of memory")


def test_nothing_is_told_to_its_maker():
    """OpenVINO reports that it is imported, unless the package for that is out of reach."""
    code = """
import sys
from vimdeploy.runtimes.openvino import import_openvino
import_openvino()
print(*(name for name in sys.modules if name.startswith("openvino_telemetry")))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
