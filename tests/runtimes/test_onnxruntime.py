import ctypes
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from vimdeploy import libraries
from vimdeploy.artifact import artifact_from_onnx, open_artifact
from vimdeploy.benchmark import memory
from vimdeploy.errors import ConfigError, ExecutionError, ModelFileError, SlowOperatorsWarning
from vimdeploy.gpu import Gpu
from vimdeploy.runtimes import onnxruntime
from vimdeploy.runtimes.load import load
from vimdeploy.runtimes.onnxruntime import OnnxRuntimeSession, operators_elsewhere, sessions_of_all_operators

MEGABYTE = 1 << 20
CUDA = "CUDAExecutionProvider"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)


def logits(session, images):
    found = session.run(images)
    assert list(found) == ["logits"]
    return found["logits"]


def changed(proto, change):
    """A copy of a model with a change."""
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    change(copy)
    return artifact_from_onnx(copy)


@pytest.fixture
def foreign(foreign_onnx):
    """A model without operators of ours."""
    return open_artifact(foreign_onnx, foreign=True)


@pytest.fixture
def no_library(monkeypatch):
    """An installation without the compiled operators."""
    monkeypatch.setattr(libraries, "library_path", lambda: None)


class TestChangedByAnotherTool:
    @pytest.fixture
    def inlined(self, tiny_proto):
        return artifact_from_onnx(onnx.inliner.inline_local_functions(tiny_proto))

    @pytest.fixture
    def without_bodies(self, tiny_proto):
        return changed(tiny_proto, lambda proto: proto.ClearField("functions"))

    def test_dissolved_operators_are_nobodys_and_slow(self, inlined, images, tiny_onnx):
        with pytest.warns(SlowOperatorsWarning, match=r"are gone, dissolved into standard ones .*; export it again"):
            session = OnnxRuntimeSession(inlined)
        assert session.description == "ONNX Runtime (cpu)"
        np.testing.assert_allclose(logits(session, images), logits(load(tiny_onnx), images), atol=1e-5)

    def test_dissolved_operators_are_not_the_librarys(self, inlined):
        with pytest.raises(ModelFileError, match="nothing is left for it"):
            OnnxRuntimeSession(inlined, operators="library")

    @pytest.mark.parametrize("operators", ["auto", "library"])
    def test_without_bodies_the_library_computes(self, without_bodies, operators):
        assert [session.operators for session in sessions_of_all_operators(without_bodies)] == ["library"]
        assert OnnxRuntimeSession(without_bodies, operators=operators).operators == "library"

    def test_dropped_bodies_are_missed(self, without_bodies):
        with pytest.raises(ModelFileError, match=r"the function bodies are gone.* Export it again"):
            OnnxRuntimeSession(without_bodies, operators="function-body")

    def test_dropped_bodies_are_missed_without_the_library(self, without_bodies, no_library):
        with pytest.raises(
            ModelFileError, match=r"the function bodies are gone.*The compiled operators are not in this"
        ):
            OnnxRuntimeSession(without_bodies)

    @pytest.mark.parametrize("rows", [1, 2, 3])
    def test_a_fixed_batch_runs_in_parts(self, tiny_proto, tiny_onnx, images, rows):
        def fix(proto):
            for value in (proto.graph.input[0], proto.graph.output[0]):
                value.type.tensor_type.shape.dim[0].dim_value = 2

        session = OnnxRuntimeSession(changed(tiny_proto, fix))
        np.testing.assert_allclose(logits(session, images[:rows]), logits(load(tiny_onnx), images[:rows]), atol=1e-5)


class TestAnswers:
    def test_are_pytorchs(self, tiny_onnx, tiny_model, images, operators):
        wanted = tiny_model(torch.from_numpy(images)).detach().numpy()
        found = logits(load(tiny_onnx, operators=operators), images)
        np.testing.assert_allclose(found, wanted, atol=1e-4 * wanted.std())

    @pytest.mark.parametrize("batch", [1, 2, 5])
    def test_do_not_depend_on_the_batch(self, tiny_onnx, operators, batch, images):
        session = load(tiny_onnx, operators=operators)
        many = logits(session, np.repeat(images[:1], batch, axis=0))
        one = logits(session, images[:1])
        np.testing.assert_allclose(many, np.repeat(one, batch, axis=0), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_do_not_depend_on_the_threads(self, tiny_onnx, operators, threads, images):
        found = logits(load(tiny_onnx, operators=operators, threads=threads), images)
        wanted = logits(load(tiny_onnx, operators=operators), images)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)

    def test_on_one_thread_are_those_of_the_same_operators(self, tiny_onnx, operators, images):
        session = load(tiny_onnx, operators=operators)
        one = session.on_one_thread()
        assert one.description == session.description
        assert one._session.get_session_options().intra_op_num_threads == 1
        np.testing.assert_allclose(logits(one, images), logits(session, images), rtol=1e-4, atol=1e-6)

    def test_are_the_same_from_a_file_and_from_memory(self, tiny_artifact, tiny_onnx, operators, images):
        from_memory = OnnxRuntimeSession(tiny_artifact, operators=operators)
        np.testing.assert_array_equal(logits(from_memory, images), logits(load(tiny_onnx, operators=operators), images))

    def test_to_a_picture(self, tiny_onnx, operators, picture):
        (answer,) = load(tiny_onnx, operators=operators).predict([picture])
        probabilities = [prediction.probability for prediction in answer.predictions]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1)


class TestFeaturesAtAnySize:
    @pytest.mark.parametrize("size", [(16, 16), (32, 32), (24, 48)])
    def test_every_output_is_pytorchs(self, any_size_network, any_size_proto, operators, size):
        array = np.random.default_rng(0).standard_normal((2, 3, *size), dtype=np.float32)
        found = OnnxRuntimeSession(artifact_from_onnx(any_size_proto), operators=operators).run(array)
        assert list(found) == ["map", "pooled", "block_0"]
        for wanted, name in zip(any_size_network.module(torch.from_numpy(array)), found, strict=True):
            wanted = wanted.detach().numpy()
            np.testing.assert_allclose(found[name], wanted, atol=1e-4 * wanted.std(), err_msg=name)

    def test_a_picture_has_its_own_size(self, any_size_proto, picture):
        answer = OnnxRuntimeSession(artifact_from_onnx(any_size_proto)).predict(picture)  # 60 x 40
        assert answer.arrays()["map"].shape in ((16, 5, 7), (16, 5, 8))


class TestOperators:
    def test_the_session_says_what_computes(self, tiny_onnx, operators):
        session = load(tiny_onnx, operators=operators)
        name = operators.replace("-", " ")
        assert (session.operators, session.description) == (name, f"ONNX Runtime ({name}, cpu)")

    def test_of_a_model_without_ours_are_none(self, foreign):
        session = OnnxRuntimeSession(foreign)
        assert (session.operators, session.description) == ("", "ONNX Runtime (cpu)")

    def test_auto_is_the_library_if_it_is_installed(self, tiny_onnx, recwarn):
        assert load(tiny_onnx).operators == "library"
        assert not recwarn.list

    @pytest.mark.parametrize("device", ["auto", "cpu"])
    def test_auto_is_the_function_body_otherwise_and_says_so_once(self, tiny_onnx, no_library, device):
        with pytest.warns(SlowOperatorsWarning, match="standard operators compute") as caught:
            session = load(tiny_onnx, device=device)
        assert (session.operators, len(caught)) == ("function body", 1)

    def test_nor_do_other_sessions_of_the_same_kind_say_so_again(self, tiny_onnx, no_library, recwarn):
        session = load(tiny_onnx)
        session.open_stages()
        session.on_one_thread()
        assert [warning.category for warning in recwarn] == [SlowOperatorsWarning]

    @pytest.mark.parametrize("spelling", ["function-body", "function body"])
    def test_function_bodies_that_were_asked_for_are_no_surprise(self, tiny_onnx, no_library, spelling, recwarn):
        assert load(tiny_onnx, operators=spelling).operators == "function body"
        assert not recwarn.list

    def test_nobody_is_warned_of_a_model_without_ours(self, foreign, no_library, recwarn):
        OnnxRuntimeSession(foreign)
        assert not recwarn.list

    def test_a_missing_library_says_what_to_do(self, tiny_onnx, no_library):
        with pytest.raises(ConfigError, match="not in this installation of vimdeploy; install it where a C"):
            load(tiny_onnx, operators="library")

    def test_a_library_that_is_none(self, tiny_onnx, tmp_path, monkeypatch):
        broken = tmp_path / "libvimdeploy_onnxruntime.so"
        broken.write_bytes(b"not a library")
        monkeypatch.setattr(libraries, "library_path", lambda: broken)
        with pytest.raises(ConfigError, match=r"libvimdeploy_onnxruntime\.so cannot be loaded"):
            load(tiny_onnx, operators="library")

    def test_a_library_that_is_none_does_not_keep_other_models_from_running(self, foreign, tmp_path, monkeypatch):
        monkeypatch.setattr(libraries, "library_path", lambda: tmp_path / "none.so")
        assert OnnxRuntimeSession(foreign).run(np.ones(1, np.float32))["y"] == [1]


class TestAllOperators:
    def test_are_the_library_and_the_function_bodies(self, tiny_artifact):
        assert [s.operators for s in sessions_of_all_operators(tiny_artifact)] == ["library", "function body"]

    def test_are_the_function_bodies_without_the_library(self, tiny_artifact, no_library):
        assert [s.operators for s in sessions_of_all_operators(tiny_artifact)] == ["function body"]

    def test_of_a_model_without_ours_are_one_session(self, foreign):
        assert [s.operators for s in sessions_of_all_operators(foreign)] == [""]


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"operators": "kernels"}, "operators must be one of auto, library, function-body, found 'kernels'"),
            ({"device": "tpu"}, "device must be auto, cpu, cuda, or cuda:N .* found 'tpu'"),
            ({"threads": 0}, "threads must be from 1 to 1024, found 0"),
            ({"threads": 100_000}, "threads must be from 1 to 1024, found 100000"),
            ({"providers": ["NoSuchProvider"]}, "has no NoSuchProvider; it has: .*CPUExecutionProvider"),
        ],
    )
    def test_that_are_none(self, tiny_onnx, options, message):
        with pytest.raises(ConfigError, match=message):
            load(tiny_onnx, **options)

    def test_operators_that_are_none_are_told_of_every_model(self, foreign):
        with pytest.raises(ConfigError, match="operators must be one of"):
            OnnxRuntimeSession(foreign, operators="kernels")

    def test_no_plan_of_tensors_is_held_beside_those_of_the_first_call(self, tiny_onnx):
        assert not load(tiny_onnx, device="cpu")._session.get_session_options().enable_mem_pattern

    def test_providers(self, tiny_onnx, images):
        session = load(tiny_onnx, providers=["CPUExecutionProvider"])
        assert logits(session, images).shape == (3, 5)


class TestDevice:
    @pytest.fixture
    def gpu(self, monkeypatch):
        """A GPU, but an ONNX Runtime that cannot use it."""
        monkeypatch.setattr("vimdeploy.gpu.gpus", lambda: [Gpu("NVIDIA Example", "9.0")])

    @pytest.mark.parametrize("device", ["auto", "cpu"])
    def test_without_a_gpu(self, tiny_onnx, device):
        assert load(tiny_onnx, device=device).device == "cpu"

    def test_cuda_without_a_gpu(self, tiny_onnx, operators):
        with pytest.raises(ConfigError, match=r"^Wanted device cuda, found no GPU in the tests; use device cpu\.$"):
            load(tiny_onnx, device="cuda", operators=operators)

    def test_cuda_without_a_gpu_is_no_matter_of_the_library(self, tiny_onnx, no_library, recwarn):
        with pytest.raises(ConfigError, match="Wanted device cuda"):
            load(tiny_onnx, device="cuda")
        assert not recwarn.list

    def test_auto_is_the_cpu_where_onnx_runtime_cannot_use_the_gpu(self, tiny_onnx, gpu, images):
        session = load(tiny_onnx)
        assert session.description == "ONNX Runtime (library, cpu)"
        assert logits(session, images).shape == (3, 5)

    def test_the_second_gpu(self, tiny_onnx, monkeypatch):
        asked = []

        def session(model, options, providers, enable_fallback):
            asked.append(providers[0])
            raise RuntimeError("CUDA failure 2: out of memory")

        monkeypatch.setattr("vimdeploy.gpu.gpus", lambda: [Gpu("NVIDIA Example", "9.0")] * 2)
        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
        monkeypatch.setattr(ort, "InferenceSession", session)
        with pytest.raises(ConfigError, match="ONNX Runtime cannot use CUDA"):
            load(tiny_onnx, device="cuda:1", operators="function-body")
        assert asked == [("CUDAExecutionProvider", {"use_tf32": "0", "device_id": "1"})]
        with pytest.raises(ConfigError, match=r"^Wanted device cuda:2, found no GPU cuda:2, but cuda:0"):
            load(tiny_onnx, device="cuda:2")

    @pytest.mark.parametrize(
        ("options", "wanted"),
        [
            ({"device": "cuda", "cuda_graphs": True}, {"use_tf32": "0", "device_id": "0", "enable_cuda_graph": "1"}),
            ({"cuda_graphs": True}, {"use_tf32": "0", "device_id": "0", "enable_cuda_graph": "1"}),
            (
                {"providers": [(CUDA, {"user_compute_stream": SimpleNamespace(cuda_stream=77), "use_tf32": 1})]},
                {"use_tf32": "1", "device_id": "0", "user_compute_stream": "77"},
            ),
            (
                {"providers": [(CUDA, {"user_compute_stream": "0"})]},
                {"use_tf32": "0", "device_id": "0", "user_compute_stream": "1"},
            ),
        ],
    )
    def test_what_the_cuda_provider_is_told(self, tiny_onnx, gpu, monkeypatch, options, wanted):
        told = []

        def session(model, options, providers, enable_fallback):
            told.append(providers[0])
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user")

        monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
        monkeypatch.setattr(ort, "InferenceSession", session)
        with pytest.raises(ConfigError, match=r"captures no CUDA graph of the model: .*; leave cuda_graphs out"):
            load(tiny_onnx, operators="function-body", **options)
        assert told == [(CUDA, wanted)]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"providers": [(CUDA, {"device_id": 1})]}, r"^Wanted device='cuda:1' in place of CUDA.* option device_id"),
            ({"providers": [(CUDA, {"enable_cuda_graph": 1})]}, "Wanted cuda_graphs=True in place of"),
            ({"device": "cpu", "cuda_graphs": True}, "cuda_graphs are of CUDAExecutionProvider, found device cpu"),
            ({"providers": ["CPUExecutionProvider"], "cuda_graphs": True}, "found CPUExecutionProvider"),
        ],
    )
    def test_what_it_cannot_be_told(self, tiny_onnx, gpu, monkeypatch, options, message):
        monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
        with pytest.raises(ConfigError, match=message):
            load(tiny_onnx, **options)

    def test_a_silent_fall_back_is_refused(self, tiny_onnx, gpu, monkeypatch):
        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
        with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(ConfigError, match="cannot start"):
            load(tiny_onnx, device="cuda", operators="function body")

    @pytest.mark.skipif(
        not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"),
        reason="ONNX Runtime is older than 1.24",
    )
    def test_onnx_runtime_tells_where_our_operators_run(self, tiny_onnx):
        session = load(tiny_onnx, operators="library")._session
        assert operators_elsewhere(session, "CPUExecutionProvider") == []
        assert len(operators_elsewhere(session, "CUDAExecutionProvider")) == 4


class TestFiles:
    def test_a_truncated_file(self, tmp_path, tiny_onnx):
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny_onnx.read_bytes()[:-100])
        with pytest.raises(ModelFileError):
            load(path)

    def test_a_text_file(self, tmp_path):
        path = tmp_path / "model.onnx"
        path.write_text("not a model")
        with pytest.raises(ModelFileError):
            load(path)

    def test_a_file_that_changed_since_it_was_opened(self, tmp_path, tiny_onnx):
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny_onnx.read_bytes())
        session = load(path)
        path.write_bytes(tiny_onnx.read_bytes()[:-1])
        with pytest.raises(ModelFileError, match="was changed while it was in use"):
            session.open_stages()

    def test_a_model_that_onnx_runtime_refuses(self, tiny_proto):
        def broken(proto):
            proto.graph.node[0].op_type, proto.graph.node[0].domain = "NoSuchOperator", "nobody"
            proto.opset_import.append(onnx.helper.make_opsetid("nobody", 1))

        with pytest.raises(ModelFileError, match=r"ONNX Runtime refuses the model: .*NoSuchOperator"):
            OnnxRuntimeSession(changed(tiny_proto, broken))

    def test_a_model_that_fails_at_work_tells_the_operators_sentence(self, tiny_proto, images):
        def broken(proto):
            del proto.graph.value_info[:]
            dt_bias = next(i for i in proto.graph.initializer if i.name.endswith("dt_bias"))
            dt_bias.CopyFrom(numpy_helper.from_array(np.zeros((2, 3), np.float32), dt_bias.name))

        session = OnnxRuntimeSession(changed(tiny_proto, broken), operators="library")
        with pytest.raises(ExecutionError) as error:
            session.run(images)
        assert str(error.value).startswith("ONNX Runtime failed on images (3, 3, 32, 32): ")
        assert "dt_bias has shape (2, 3), wanted (K, E) = (2, 32)" in str(error.value)


class TestFreeMemory:
    @pytest.mark.skipif(
        sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc alone keeps free pages"
    )
    def test_what_lies_below_a_used_block_is_given_back(self):
        blocks = [bytes([1]) * (MEGABYTE >> 4) for _ in range(64 << 4)]
        last = blocks[-1]
        del blocks
        before = memory.resident_bytes()
        onnxruntime._give_back_free_memory()
        assert before - memory.resident_bytes() > 50 * MEGABYTE
        assert last[-1] == 1

    @pytest.mark.parametrize("platform", ["darwin", "win32"])
    def test_other_systems_are_not_asked(self, monkeypatch, platform):
        def never(name):
            raise AssertionError

        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(ctypes, "CDLL", never)
        onnxruntime._give_back_free_memory()

    def test_a_session_holds_no_second_copy_of_the_model(self, tiny_onnx):
        artifact = open_artifact(tiny_onnx)
        OnnxRuntimeSession(artifact)
        assert (artifact._model, artifact._data) == (None, None)


@pytest.mark.parametrize(
    "options", [{"threads": 1}, {"operators": "function-body"}, {"providers": ["CPUExecutionProvider"]}]
)
def test_a_session_is_pickled_as_its_file_and_options(tiny_onnx, images, options):
    session = load(tiny_onnx, **options)
    again = pickle.loads(pickle.dumps(session))
    assert repr(again) == repr(session)
    np.testing.assert_array_equal(logits(again, images), logits(session, images))


FORKS = """
import os, signal, sys
import numpy as np
import vimdeploy
session = vimdeploy.load(sys.argv[1], threads=2)
images = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)
wanted = session.run(images)["logits"]
for runs in (0, 1, 2):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a process that hangs
        sys.exit(not all(np.array_equal(session.run(images)["logits"], wanted) for _ in range(runs)))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(np.array_equal(session.run(images)["logits"], wanted))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks nothing")
def test_forked_processes_run_a_session_and_end(tiny_onnx):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, tiny_onnx], capture_output=True, text=True, env=environment
    )
    assert (process.stdout.split(), process.stderr) == (["0", "0", "0", "True"], "")
