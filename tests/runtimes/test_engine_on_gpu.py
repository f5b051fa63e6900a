"""The calls to TensorRT and CUDA, their order and what becomes of failures, on stand-ins: there need be no GPU."""

import gc
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.stand_in_tensorrt import PLAN, WORKING_MEMORY, Engine, classifier, tensorrt
from helpers.tensorrt_bindings import BINDINGS

from vimdeploy.errors import ConfigError, ExecutionError, InputError, MissingPackageError, ModelFileError
from vimdeploy.runtimes.engine_on_gpu import EngineOnGpu
from vimdeploy.runtimes.gpu_arrays import gpu_array_of

PLAIN_RUN = ["copy in", "execute", "copy out", "synchronize"]


@pytest.fixture
def trt(cuda):
    return tensorrt(cuda=cuda)


@pytest.fixture
def engine(cuda, trt):
    opened = EngineOnGpu(trt, PLAN, gpu=0, allow_code=False)
    yield opened
    opened.close()
    assert cuda.depth == 0


def images(batch):
    return np.random.default_rng(batch).standard_normal((batch, 3, 2, 4), dtype=np.float32)


def answers(engine, array):
    """The engine's, to pictures."""
    found = engine.run({"images": array})
    assert list(found) == ["logits"]
    return found["logits"]


def wait_until(holds):
    """Wait for what another thread does."""
    for _ in range(4000):
        if holds():
            return
        time.sleep(0.005)
    raise AssertionError("it never held")


def run(engine, cuda, *batches):
    """The calls of runs, without those around them."""
    before = len(cuda.calls)
    for batch in batches:
        engine.run({"images": images(batch)})
    return [name for name in cuda.names()[before:] if name != "push"]


class TestOpen:
    def test_buffers_are_made_once_for_the_largest_batch(self, cuda, engine):
        run(engine, cuda, 1, 8, 3)
        assert [call for call in cuda.calls if call[0] in ("pinned", "allocate")] == [
            ("allocate", WORKING_MEMORY),
            ("pinned", 8 * 24),
            ("allocate", 8 * 24 * 4),
            ("pinned", 8 * 5),
            ("allocate", 8 * 5 * 4),
        ]
        assert engine.bytes_per_lane == WORKING_MEMORY + 8 * (24 + 5) * 4

    @pytest.mark.parametrize("version", BINDINGS)
    def test_every_version_takes_the_contexts_memory(self, cuda, version):
        trt = tensorrt(version, cuda)
        opened = EngineOnGpu(trt, PLAN, 0, False)
        assert opened._loaded.engine.strategy is trt.ExecutionContextAllocationStrategy.USER_MANAGED
        run(opened, cuda, 1, 2, 3)
        memory = [call[1] for call in cuda.calls if call[0] == "context memory"]
        assert memory == [int(opened._lanes[0]._scratch)] * 3
        opened.close()

    def test_the_engine_knows_its_buffers(self, cuda, engine):
        run(engine, cuda, 2, 2)
        addressed = [call[1:] for call in cuda.calls if call[0] == "set_tensor_address"]
        assert addressed == [(name, int(engine._lanes[0]._on_gpu[name])) for name in ("images", "logits")]

    def test_the_stream_waits_for_no_other(self, cuda, engine):
        assert ("stream", 1) in cuda.calls  # CU_STREAM_NON_BLOCKING

    @pytest.mark.parametrize("allowed", [False, True])
    def test_code_in_the_engine_runs_only_where_it_is_allowed(self, cuda, trt, allowed):
        EngineOnGpu(trt, PLAN, 0, allowed).close()
        assert ("deserialize", PLAN, allowed) in cuda.calls

    def test_two_engines_share_the_primary_context(self, cuda, engine):
        EngineOnGpu(tensorrt(cuda=cuda), PLAN, 0, False).close()
        assert cuda.names().count("init") == 1

    def test_rtx_captures_its_graphs_itself(self, cuda):
        trt = tensorrt("1.7.1.116", cuda)
        opened = EngineOnGpu(trt, PLAN, 0, False)
        assert opened._loaded.engine.strategy.cuda_graph_strategy is trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        assert run(opened, cuda, 2, 2, 2) == [*["set_tensor_address"] * 2, "set_input_shape", *PLAIN_RUN * 3]
        opened.close()


class TestFailuresToOpen:
    """One sentence, and nothing is kept."""

    def refused(self, cuda, trt, error):
        with pytest.raises(error) as caught:
            EngineOnGpu(trt, PLAN, 0, False)
        assert cuda.depth == 0
        made, freed = cuda.names().count("pinned"), cuda.names().count("free pinned")
        assert made - freed == (1 if "pinned" in cuda.fails else 0)
        return str(caught.value)

    def test_tensorrt_cannot_start(self, cuda, trt):
        trt.start_errors = ["CUDA initialization failure\n with error 35"]
        message = self.refused(cuda, trt, ExecutionError)
        assert message == "TensorRT cannot start: CUDA initialization failure with error 35"

    def test_tensorrt_refuses_the_plan(self, cuda, trt):
        trt.engine = None
        assert "TensorRT refuses the engine" in self.refused(cuda, trt, ModelFileError)

    def test_there_is_no_memory_for_the_engines_own(self, cuda, trt):
        trt.engine.refuses.add("create_execution_context")
        assert "TensorRT cannot prepare the engine" in self.refused(cuda, trt, ExecutionError)

    def test_the_engine_refuses_its_own_largest_shape(self, cuda, trt):
        trt.engine.refuses.add("set_input_shape")
        message = self.refused(cuda, trt, ExecutionError)
        assert message == "TensorRT refuses images (8, 3, 2, 4): it gives no reason"

    @pytest.mark.parametrize("call", ["push", "pinned", "allocate", "stream"])
    def test_cuda_fails(self, cuda, trt, call):
        cuda.fails.add(call)
        assert self.refused(cuda, trt, ExecutionError) == f"CUDA failed: {call} failed: out of memory"

    def test_no_pycuda(self, trt, monkeypatch):
        monkeypatch.setitem(sys.modules, "pycuda.driver", None)
        with pytest.raises(MissingPackageError, match=r"pip install '.*\[pycuda\]'"):
            EngineOnGpu(trt, PLAN, 0, False)


class TestRun:
    @pytest.mark.parametrize("batch", [1, 7, 8, 9, 16, 20])
    def test_each_image_has_its_answer(self, engine, batch):
        given = images(batch)
        np.testing.assert_array_equal(answers(engine, given), given.reshape(batch, -1)[:, :5])

    def test_answers_stay_when_the_next_ones_come(self, engine):
        first = answers(engine, images(2))
        kept = first.copy()
        answers(engine, images(2) + 1)
        np.testing.assert_array_equal(first, kept)

    @pytest.mark.parametrize(("batch", "parts"), [(9, [8, 1]), (16, [8, 8]), (20, [8, 8, 4])])
    def test_a_large_batch_runs_in_full_parts_and_the_rest(self, cuda, engine, batch, parts):
        answers(engine, images(batch))
        assert [call[1] // 24 for call in cuda.calls if call[0] == "copy in"] == parts

    @pytest.mark.parametrize(
        ("smallest", "batch", "parts"), [(4, 3, [4]), (4, 9, [8, 4]), (8, 1, [8]), (8, 12, [8, 8])]
    )
    def test_a_rest_below_the_smallest_is_filled_up(self, cuda, trt, smallest, batch, parts):
        """Also in an engine of a fixed batch."""
        trt.engine = Engine(cuda, trt, *classifier(smallest=smallest))
        opened = EngineOnGpu(trt, PLAN, 0, False)
        given = images(batch)
        np.testing.assert_array_equal(answers(opened, given), given.reshape(batch, -1)[:, :5])
        assert [call[1] // 24 for call in cuda.calls if call[0] == "copy in"] == parts
        opened.close()

    def test_the_last_row_fills_it_up(self, cuda, trt):
        seen = []

        def logits(images):
            seen.append(images.copy())
            return images[:, 0, 0]

        trt.engine = Engine(cuda, trt, classifier(smallest=4)[0], {"logits": logits})
        opened = EngineOnGpu(trt, PLAN, 0, False)
        given = images(2)
        opened.run({"images": given})
        np.testing.assert_array_equal(seen[-1], given[[0, 1, 1, 1]])
        given = given + 1
        opened.run_on_gpu(lambda handle: {"images": gpu_array_of(cuda.array(given), 0, handle)}, None, {}, None)
        np.testing.assert_array_equal(seen[-1], given[[0, 1, 1, 1]])
        opened.close()

    def test_the_shape_is_told_once(self, cuda, engine):
        before = len(cuda.calls)
        run(engine, cuda, 2, 2, 3, 3, 2)
        assert [call[1][0] for call in cuda.calls[before:] if call[0] == "set_input_shape"] == [2, 3]

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            ("set_input_shape", "TensorRT refuses images (2, 3, 2, 4): it gives no reason"),
            ("execute", "TensorRT failed on {'images': (2, 3, 2, 4)}: it gives no reason"),
        ],
    )
    def test_tensorrt_fails(self, cuda, engine, call, message):
        refuses = engine._loaded.engine.refuses
        if call == "execute":  # and go on with a context that has done so
            answers(engine, images(2))
        refuses.add(call)
        with pytest.raises(ExecutionError) as error:
            answers(engine, images(2))
        assert str(error.value) == message
        assert cuda.depth == 0
        refuses.clear()
        assert answers(engine, images(2)).shape == (2, 5)

    def test_cuda_fails(self, cuda, engine):
        cuda.fails.add("synchronize")
        with pytest.raises(ExecutionError, match="CUDA failed: synchronize failed: out of memory"):
            answers(engine, images(2))
        assert cuda.depth == 0


class TestAnyShape:
    """An engine that is dynamic in the size of its pictures too, and gives two outputs."""

    @pytest.fixture
    def engine(self, cuda, trt):
        inputs = {"images": ((1, 3, 2, 2), (4, 3, 6, 8))}
        outputs = {"map": lambda images: images[:, :2], "pooled": lambda images: images.mean((2, 3))}
        trt.engine = Engine(cuda, trt, inputs, outputs)
        opened = EngineOnGpu(trt, PLAN, 0, False)
        yield opened
        opened.close()

    @pytest.mark.parametrize("shape", [(1, 3, 2, 2), (4, 3, 6, 8), (3, 3, 4, 2), (9, 3, 2, 8)])
    def test_every_output_has_the_shape_that_belongs_to_the_inputs(self, engine, shape):
        array = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        found = engine.run({"images": array})
        np.testing.assert_array_equal(found["map"], array[:, :2])
        np.testing.assert_allclose(found["pooled"], array.mean((2, 3)), atol=1e-6)

    def test_one_after_the_other(self, engine):
        for size in ((2, 8), (6, 2), (2, 8), (2, 8), (2, 8)):
            array = np.random.default_rng(size).standard_normal((2, 3, *size), dtype=np.float32)
            np.testing.assert_array_equal(engine.run({"images": array})["map"], array[:, :2])

    def test_buffers_are_those_of_the_largest(self, cuda, engine):
        engine.run({"images": np.zeros((1, 3, 2, 2), np.float32)})
        pinned = [call[1] for call in cuda.calls if call[0] == "pinned"]
        assert pinned == [4 * 3 * 6 * 8, 4 * 2 * 6 * 8, 4 * 3]

    @pytest.mark.parametrize("size", [(1, 2), (8, 8), (2, 9)])
    def test_beyond_the_profile(self, engine, size):
        shapes = r"built for images from \(1, 3, 2, 2\) to \(4, 3, 6, 8\), found"
        with pytest.raises(InputError, match=rf"{shapes} images \(1, 3, {size[0]}, {size[1]}\); .* a wider --shape"):
            engine.run({"images": np.zeros((1, 3, *size), np.float32)})


class TestSeveralInputs:
    @pytest.fixture
    def engine(self, cuda, trt):
        inputs = {"left": ((1, 2), (8, 2)), "right": ((1, 3), (4, 3))}
        trt.engine = Engine(cuda, trt, inputs, {"both": lambda left, right: np.concatenate([left, right], axis=1)})
        opened = EngineOnGpu(trt, PLAN, 0, False)
        yield opened
        opened.close()

    @pytest.mark.parametrize("batch", [1, 4, 5, 9])
    def test_are_cut_into_the_same_parts(self, engine, batch):
        left, right = (np.random.default_rng(n).standard_normal((batch, n), dtype=np.float32) for n in (2, 3))
        both = engine.run({"right": right, "left": left})["both"]
        np.testing.assert_array_equal(both, np.concatenate([left, right], axis=1))

    def test_the_largest_batch_is_that_of_the_narrowest(self, cuda, engine):
        engine.run({"left": np.zeros((6, 2), np.float32), "right": np.zeros((6, 3), np.float32)})
        assert cuda.names().count("execute") == 2


class TestProfiles:
    """An engine that is fastest at one picture, or at six."""

    @pytest.fixture
    def engine(self, cuda, trt):
        several = {"images": ((1, 3, 2, 4), (6, 3, 2, 4), (8, 3, 2, 4))}
        one = {"images": ((1, 3, 2, 4), (1, 3, 2, 4))}
        trt.engine = Engine(cuda, trt, one, classifier()[1], several)
        opened = EngineOnGpu(trt, PLAN, 0, False)
        yield opened
        opened.close()

    @pytest.mark.parametrize(("batch", "chosen"), [(1, [0]), (2, [0, 1]), (8, [0, 1]), (9, [0, 1, 0])])
    def test_each_batch_runs_by_the_nearest(self, cuda, engine, batch, chosen):
        before = cuda.names().count("set_optimization_profile")
        given = images(batch)
        np.testing.assert_array_equal(answers(engine, given), given.reshape(batch, -1)[:, :5])
        found = [call[1] for call in cuda.calls if call[0] == "set_optimization_profile"][before:]
        # The first context measured the larger profile when the engine was loaded, new ones begin with the first.
        assert found == {1: [0], 2: [], 8: [], 9: []}[batch]

    def test_a_context_that_was_told_its_profile_is_done_before_any_stream_runs_it(self, cuda, engine):
        stream = engine._lanes[0].stream.handle
        (place,) = [number for number, call in enumerate(cuda.calls) if call == ("set_optimization_profile", 1, stream)]
        assert cuda.calls[place + 1] == ("synchronize",)

    def test_buffers_are_those_of_the_largest(self, cuda, engine):
        assert [call[1] for call in cuda.calls if call[0] == "pinned"] == [8 * 24, 8 * 5]

    def test_each_has_its_graph(self, cuda, engine):
        for batch in (1, 8) * 3:
            engine.run({"images": images(batch)})
        assert run(engine, cuda, 1, 8) == [*TestGraph.LAUNCH] * 2

    def test_a_profile_that_tensorrt_refuses(self, cuda, trt):
        trt.engine = Engine(cuda, trt, *classifier(), classifier()[0])
        trt.engine.refuses.add("set_optimization_profile")
        with pytest.raises(ExecutionError, match="TensorRT refuses profile 1: it gives no reason"):
            EngineOnGpu(trt, PLAN, 0, False)


class TestThreads:
    """Each run that meets another has a lane of its own."""

    @pytest.fixture
    def meeting(self, cuda, trt):
        """An engine, a list for the barrier that its runs are to meet at, and the batches that it has run."""
        met, barriers = [], []

        def logits(images):
            if images.any():  # else it is asked for a shape
                met.append(len(images))
                if barriers:
                    barriers[0].wait(20)
            return images.reshape(len(images), -1)[:, :5]

        trt.engine = Engine(cuda, trt, classifier()[0], {"logits": logits})
        opened = EngineOnGpu(trt, PLAN, 0, False, lanes=3)
        yield opened, barriers, met
        barriers.clear()
        opened.close()

    def at_once(self, engine, count):
        """Whether so many runs at once have answered what they were asked."""
        with ThreadPoolExecutor(count) as pool:
            given = [images(1) + number for number in range(count)]
            found = list(pool.map(lambda array: answers(engine, array), given))
        return all((ours == array.reshape(1, -1)[:, :5]).all() for ours, array in zip(found, given, strict=True))

    def test_compute_at_the_same_time(self, cuda, meeting):
        engine, barriers, _ = meeting
        assert cuda.names().count("stream") == 1
        barriers.append(threading.Barrier(3))
        assert self.at_once(engine, 3)
        assert cuda.names().count("stream") == len(engine._lanes) == 3
        assert cuda.names().count("pinned") == 6

    def test_one_alone_takes_one_lane(self, cuda, meeting):
        engine = meeting[0]
        run(engine, cuda, 1, 2, 3, 1)
        assert len(engine._lanes) == 1

    def test_further_ones_wait(self, cuda, meeting):
        engine = meeting[0]
        assert self.at_once(engine, 12)
        assert len(engine._lanes) <= 3

    def test_without_memory_for_another_lane_they_wait(self, cuda, meeting):
        engine, barriers, met = meeting
        go_on = threading.Barrier(2)
        barriers.append(go_on)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(answers, engine, images(1))
            wait_until(lambda: met == [1])
            cuda.fails.add("allocate")
            second = pool.submit(answers, engine, images(2))
            wait_until(lambda: engine._most_lanes == 1)
            assert met == [1]
            barriers.clear()
            go_on.wait(20)
            assert (first.result().shape, second.result().shape) == ((1, 5), (2, 5))
        cuda.fails.clear()
        assert len(engine._lanes) == 1

    def test_closing_waits_for_a_run(self, cuda, meeting):
        engine, barriers, met = meeting
        go_on = threading.Barrier(2)
        barriers.append(go_on)
        with ThreadPoolExecutor(2) as pool:
            running = pool.submit(answers, engine, images(1))
            wait_until(lambda: met == [1])
            closing = pool.submit(engine.close)
            wait_until(lambda: engine._is_closed)
            with pytest.raises(ConfigError, match="The session was closed; open the engine again"):
                answers(engine, images(1))
            assert "free" not in cuda.names()
            go_on.wait(20)
            assert running.result().shape == (1, 5)
            closing.result()
        assert cuda.names().count("free") == 3

    def test_a_run_that_fails_gives_its_lane_back(self, cuda, engine):
        for _ in range(5):
            engine._loaded.engine.refuses.add("execute")
            engine._lanes[0]._contexts.clear()
            with pytest.raises(ExecutionError, match="TensorRT failed"):
                answers(engine, images(1))
            engine._loaded.engine.refuses.clear()
        assert len(engine._lanes) == len(engine._idle) == 1


class TestOnTheGpu:
    """Inputs and outputs that are in the GPU's memory: the CPU's here."""

    STREAM = 5

    def run(self, engine, given, outputs=(), stream=None):
        """Runs arrays that a library has on the GPU."""

        def take(handle):
            return {name: gpu_array_of(array, 0, handle) for name, array in given.items()}

        return engine.run_on_gpu(take, next(iter(given.values())), dict(outputs), stream)

    @pytest.mark.parametrize("batch", [1, 7, 8, 9, 20])
    def test_each_image_has_its_answer(self, cuda, engine, batch):
        given = images(batch)
        logits = self.run(engine, {"images": cuda.array(given)})["logits"]
        np.testing.assert_array_equal(logits.numpy(), given.reshape(batch, -1)[:, :5])
        assert (logits.gpu, logits.stream) == (0, None)

    def test_nothing_goes_over_the_cpu(self, cuda, engine):
        before = len(cuda.calls)
        self.run(engine, {"images": cuda.array(images(2))})
        assert not {"copy in", "copy out", "copy back"} & set(cuda.names()[before:])

    @pytest.mark.parametrize("stream", [None, 6])
    def test_what_writes_the_inputs_comes_first(self, cuda, engine, stream):
        given = images(2)
        late = np.zeros_like(given)
        array = cuda.array(late, stream=self.STREAM)
        cuda.put(self.STREAM, lambda: np.copyto(late, given))
        logits = self.run(engine, {"images": array}, stream=stream)["logits"]
        np.testing.assert_array_equal(logits.numpy(), given.reshape(2, -1)[:, :5])

    def test_without_a_stream_the_answers_are_there(self, cuda, engine):
        before = len(cuda.calls)
        self.run(engine, {"images": cuda.array(images(2))})
        own = engine._lanes[0].stream.handle
        assert [call for call in cuda.calls[before:] if call[0] in ("copy", "execute", "synchronize")] == [
            ("copy", 2 * 24 * 4, own),
            ("execute", own),
            ("copy", 2 * 5 * 4, own),
            ("synchronize",),
        ]

    def test_on_the_callers_stream_nobody_waits(self, cuda, engine):
        self.run(engine, {"images": cuda.array(images(2))}, stream=self.STREAM)
        before = len(cuda.calls)
        logits = self.run(engine, {"images": cuda.array(images(2))}, stream=self.STREAM)["logits"]
        assert logits.stream == self.STREAM
        calls = cuda.calls[before:]
        assert {name for name, *_ in calls} & {"synchronize", "synchronize stream", "synchronize event"} == set()
        assert {call[-1] for call in calls if call[0] in ("copy", "launch", "record")} == {self.STREAM}

    def test_one_graph_serves_all_addresses_and_the_cpu(self, cuda, engine):
        """The second run makes it, from then on it is launched, wherever the arrays are."""
        arrays = [images(2) + number for number in range(4)]
        answers(engine, arrays[0])
        for number, array in enumerate(arrays):
            logits = self.run(engine, {"images": cuda.array(array)}, stream=self.STREAM + number)["logits"]
            np.testing.assert_array_equal(logits.numpy(), array.reshape(2, -1)[:, :5])
        assert cuda.names().count("begin capture") == 1
        assert [call[1] for call in cuda.calls if call[0] == "launch"] == [5, 6, 7, 8]
        assert run(engine, cuda, 2)[:2] == ["wait", "copy in"]

    def test_what_comes_next_waits_for_a_callers_stream(self, cuda, engine):
        """The lane's buffers are in use until that stream is done."""
        given = cuda.array(images(2))
        logits = self.run(engine, {"images": given}, stream=self.STREAM)
        assert cuda.calls[-1] == ("record", self.STREAM)
        del logits
        before = len(cuda.calls)
        self.run(engine, {"images": given}, stream=6)
        assert [call for call in cuda.calls[before:] if call[0] == "wait"] == [("wait", 6)]
        before = len(cuda.calls)
        answers(engine, images(2))
        assert [call for call in cuda.calls[before:] if call[0] == "wait"] == [("wait", engine._lanes[0].stream.handle)]
        before = len(cuda.calls)
        answers(engine, images(2))
        assert "wait" not in cuda.names()[before:]

    def test_closing_waits_for_a_callers_stream(self, cuda, engine):
        self.run(engine, {"images": cuda.array(images(2))}, stream=self.STREAM)
        before = len(cuda.calls)
        engine.close()
        assert cuda.names()[before:][1:3] == ["synchronize event", "synchronize"]

    def test_outputs_of_the_callers_own(self, cuda, engine):
        given, wanted = images(9), np.zeros((9, 5), np.float32)
        array = cuda.array(wanted)
        before = len(cuda.calls)
        assert self.run(engine, {"images": cuda.array(given)}, {"logits": array})["logits"] is array
        np.testing.assert_array_equal(wanted, given.reshape(9, -1)[:, :5])
        assert "allocate array" not in cuda.names()[before:]

    @pytest.mark.parametrize(
        ("name", "output", "message"),
        [
            ("logits", np.zeros((2, 4), np.float32), r"Wanted logits \(2, 5\) of float32, found \(2, 4\) of float32"),
            ("logits", np.zeros((2, 5), np.int32), r"Wanted logits \(2, 5\) of float32, found \(2, 5\) of int32"),
            ("scores", np.zeros((2, 5), np.float32), "Wanted outputs among logits; found scores"),
        ],
    )
    def test_outputs_that_do_not_fit(self, cuda, engine, name, output, message):
        with pytest.raises(InputError, match=message):
            self.run(engine, {"images": cuda.array(images(2))}, {name: cuda.array(output)})
        assert len(engine._idle) == 1

    def test_a_rest_below_the_smallest_is_filled_up(self, cuda, trt):
        trt.engine = Engine(cuda, trt, *classifier(smallest=4))
        opened = EngineOnGpu(trt, PLAN, 0, False)
        for batch in (1, 3, 9):
            given = images(batch)
            logits = self.run(opened, {"images": cuda.array(given)})["logits"]
            np.testing.assert_array_equal(logits.numpy(), given.reshape(batch, -1)[:, :5])
        opened.close()

    def test_what_pytorch_has_there_is_answered_by_its_tensors(self, cuda, engine, monkeypatch):
        """Tensors of the CPU that say that they are on the GPU."""
        given = images(2)
        monkeypatch.setattr(torch.Tensor, "__dlpack_device__", lambda tensor: (2, 0))
        plain = torch.Tensor.__dlpack__
        monkeypatch.setattr(torch.Tensor, "__dlpack__", lambda tensor, *, stream: plain(tensor))
        tensor = torch.from_numpy(given)
        cuda.array(given)
        made = []

        def in_memory_of_the_stand_in(shape, dtype, device):
            made.append(np.empty(shape, np.float32))
            cuda.array(made[-1])
            return torch.from_numpy(made[-1])

        monkeypatch.setattr(torch, "empty", in_memory_of_the_stand_in)
        logits = self.run(engine, {"images": tensor})["logits"]
        assert (type(logits), logits.data_ptr()) == (torch.Tensor, made[0].ctypes.data)
        np.testing.assert_array_equal(made[0], given.reshape(2, -1)[:, :5])

    def test_cuda_fails(self, cuda, engine):
        cuda.fails.add("copy")
        with pytest.raises(ExecutionError, match="CUDA failed: out of memory"):
            self.run(engine, {"images": cuda.array(images(2))})
        assert (len(engine._idle), cuda.depth) == (1, 0)


class TestGraph:
    CAPTURE = ("begin capture", "execute", "end capture", "instantiate", "free recording")
    LAUNCH = ("copy in", "launch", "copy out", "synchronize")

    def test_the_second_run_of_a_shape_makes_it_and_later_ones_launch_it(self, cuda, engine):
        assert run(engine, cuda, 2) == ["context memory", *["set_tensor_address"] * 2, "set_input_shape", *PLAIN_RUN]
        assert run(engine, cuda, 2) == ["copy in", *self.CAPTURE, *self.LAUNCH[1:]]
        assert run(engine, cuda, 2, 2) == [*self.LAUNCH] * 2

    def test_gives_the_answers_to_what_comes_later(self, engine):
        for seed in range(4):
            given = np.random.default_rng(seed).standard_normal((2, 3, 2, 4), dtype=np.float32)
            np.testing.assert_array_equal(answers(engine, given), given.reshape(2, -1)[:, :5])

    def test_only_this_thread_is_captured(self, cuda, engine):
        run(engine, cuda, 2, 2)
        assert ("begin capture", 1) in cuda.calls  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

    def test_shapes_in_turn_keep_theirs(self, cuda, engine):
        """As a server has them, and a large batch: its full parts, and the rest."""
        run(engine, cuda, 2, 3, 2, 3)
        assert run(engine, cuda, 2, 3, 2, 3) == [*self.LAUNCH] * 4
        run(engine, cuda, 9, 9)
        assert run(engine, cuda, 9) == [*self.LAUNCH] * 2

    def test_the_graph_of_a_shape_gives_its_own_answers(self, engine):
        for seed in range(4):
            for batch in (2, 5, 8):
                given = np.random.default_rng(seed).standard_normal((batch, 3, 2, 4), dtype=np.float32)
                np.testing.assert_array_equal(answers(engine, given), given.reshape(batch, -1)[:, :5])

    def test_of_many_shapes_the_one_that_waited_longest_gives_its_context(self, cuda, trt):
        trt.engine = Engine(cuda, trt, {"images": ((1, 1), (20, 1))}, {"same": lambda images: images})
        opened = EngineOnGpu(trt, PLAN, 0, False)

        def run(*batches):
            before = len(cuda.calls)
            for batch in batches:
                opened.run({"images": np.ones((batch, 1), np.float32)})
            return [name for name in cuda.names()[before:] if name != "push"]

        run(*range(1, 9), *range(1, 9))
        assert cuda.names().count("context memory") == 8
        assert run(9) == ["synchronize", "free graph", "set_input_shape", *PLAIN_RUN]
        assert run(9) == ["copy in", *self.CAPTURE, *self.LAUNCH[1:]]
        assert run(2, 8) == [*self.LAUNCH] * 2
        assert run(1) == ["synchronize", "free graph", "set_input_shape", *PLAIN_RUN]
        opened.close()

    @pytest.mark.parametrize(
        ("call", "calls"),
        [
            ("begin capture", ["begin capture"]),
            ("end capture", CAPTURE[:3]),
            ("instantiate", CAPTURE),
        ],
    )
    def test_where_it_is_refused_the_engine_runs_without(self, cuda, engine, call, calls):
        run(engine, cuda, 2)
        cuda.fails.add(call)
        assert run(engine, cuda, 2) == ["copy in", *calls, *PLAIN_RUN[1:]]
        assert run(engine, cuda, 2) == PLAIN_RUN

    def test_where_the_work_cannot_be_captured_the_engine_runs_without(self, cuda, engine):
        run(engine, cuda, 2)
        (context,) = engine._lanes[0]._contexts.values()
        execute = context.own.execute_async_v3
        context.own.execute_async_v3 = lambda stream: cuda.names()[-1] != "begin capture" and execute(stream)
        assert run(engine, cuda, 2) == ["copy in", "begin capture", "end capture", "free recording", *PLAIN_RUN[1:]]

    def test_where_it_does_not_launch_the_engine_runs_without(self, cuda, engine):
        run(engine, cuda, 2, 2)
        cuda.fails.add("launch")
        assert run(engine, cuda, 2) == ["copy in", "launch", *PLAIN_RUN[1:]]


class TestClose:
    def test_everything_goes_in_the_order_of_need(self, cuda, engine):
        run(engine, cuda, 2, 2)
        before = len(cuda.calls)
        engine.close()
        gc.collect()
        assert cuda.names()[before:] == [
            *("push", "synchronize", "free graph"),
            *("free", "free pinned", "free", "free pinned", "free event"),
            *("free context", "free", "free engine", "free runtime"),
        ]

    def test_twice_is_once(self, cuda, engine):
        engine.close()
        before = len(cuda.calls)
        engine.close()
        assert cuda.names()[before:] == []

    def test_a_dead_gpu_is_no_error(self, cuda, engine):
        cuda.fails.add("push")
        engine.close()
        cuda.fails.clear()
