"""The calls to TensorRT and CUDA, their order and what becomes of failures, on stand-ins: there need be no GPU."""

import gc
import sys

import numpy as np
import pytest
from helpers.stand_in_tensorrt import PLAN, WORKING_MEMORY, Engine, classifier, tensorrt
from helpers.tensorrt_bindings import BINDINGS

from vimdeploy.errors import ExecutionError, InputError, MissingPackageError, ModelFileError
from vimdeploy.runtimes.engine_on_gpu import EngineOnGpu

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
