"""The calls to TensorRT and CUDA, their order and what becomes of failures, on stand-ins: there need be no GPU."""

import gc
import sys

import numpy as np
import pytest
from helpers.stand_in_tensorrt import PLAN, tensorrt

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


def run(engine, cuda, *batches):
    """The calls of runs, without those around them."""
    before = len(cuda.calls)
    for batch in batches:
        engine.run(images(batch))
    return [name for name in cuda.names()[before:] if name != "push"]


class TestOpen:
    def test_buffers_are_made_once_for_the_largest_batch(self, cuda, engine):
        run(engine, cuda, 1, 8, 3)
        assert [call for call in cuda.calls if call[0] in ("pinned", "allocate")] == [
            ("pinned", (8, 3, 2, 4)),
            ("allocate", 8 * 24 * 4),
            ("pinned", (8, 5)),
            ("allocate", 8 * 5 * 4),
        ]

    def test_the_engine_knows_its_buffers(self, cuda, engine):
        addressed = [call[1] for call in cuda.calls if call[0] == "set_tensor_address"]
        assert addressed == ["images", "logits"]

    def test_the_stream_waits_for_no_other(self, cuda, engine):
        assert ("stream", 1) in cuda.calls  # CU_STREAM_NON_BLOCKING

    @pytest.mark.parametrize("allowed", [False, True])
    def test_code_in_the_engine_runs_only_where_it_is_allowed(self, cuda, trt, allowed):
        EngineOnGpu(trt, PLAN, 0, allowed).close()
        assert ("deserialize", PLAN, allowed) in cuda.calls

    def test_two_engines_share_the_primary_context(self, cuda, engine):
        EngineOnGpu(tensorrt(cuda=cuda), PLAN, 0, False).close()
        assert cuda.names().count("init") == 1

    def test_rtx_captures_its_graphs_itself(self, cuda, trt):
        from enum import Enum

        trt.CudaGraphStrategy = Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
        opened = EngineOnGpu(trt, PLAN, 0, False)
        assert opened._engine.config.cuda_graph_strategy is trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        assert run(opened, cuda, 2, 2, 2) == ["set_input_shape", *PLAIN_RUN * 3]
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
        trt.engine.context = None
        assert "TensorRT cannot prepare the engine" in self.refused(cuda, trt, ExecutionError)

    @pytest.mark.parametrize("call", ["push", "pinned", "allocate", "stream"])
    def test_cuda_fails(self, cuda, trt, call):
        cuda.fails.add(call)
        assert self.refused(cuda, trt, ExecutionError) == f"CUDA failed: {call} failed: out of memory"

    def test_no_pycuda(self, trt, monkeypatch):
        monkeypatch.setitem(sys.modules, "pycuda.driver", None)
        with pytest.raises(MissingPackageError, match=r"pip install 'vimdeploy\[pycuda\]'"):
            EngineOnGpu(trt, PLAN, 0, False)


class TestRun:
    @pytest.mark.parametrize("batch", [1, 7, 8, 9, 16, 20])
    def test_each_image_has_its_answer(self, engine, batch):
        given = images(batch)
        np.testing.assert_array_equal(engine.run(given), given.reshape(batch, -1)[:, :5])

    def test_answers_stay_when_the_next_ones_come(self, engine):
        first = engine.run(images(2))
        kept = first.copy()
        engine.run(images(2) + 1)
        np.testing.assert_array_equal(first, kept)

    @pytest.mark.parametrize(("batch", "parts"), [(9, [5, 4]), (16, [8, 8]), (20, [7, 7, 6])])
    def test_a_large_batch_runs_in_equal_parts(self, cuda, engine, batch, parts):
        engine.run(images(batch))
        assert [call[1][0] for call in cuda.calls if call[0] == "copy in"] == parts

    def test_a_batch_below_the_smallest(self, cuda, trt):
        trt.engine.smallest = 4
        opened = EngineOnGpu(trt, PLAN, 0, False)
        with pytest.raises(InputError, match="Wanted a batch of 4 to 8 images or a multiple of that, found 3; build"):
            opened.run(images(3))
        assert opened.run(images(10)).shape == (10, 5)
        opened.close()

    def test_the_shape_is_told_where_it_changes(self, cuda, engine):
        run(engine, cuda, 2, 2, 3, 3, 2)
        assert [call[1][0] for call in cuda.calls if call[0] == "set_input_shape"] == [2, 3, 2]

    @pytest.mark.parametrize("call", ["set_input_shape", "execute"])
    def test_tensorrt_fails(self, cuda, engine, call):
        engine._context.refuses.add(call)
        with pytest.raises(ExecutionError, match=r"TensorRT (refuses|failed on) a batch of 2: it gives no reason"):
            engine.run(images(2))
        assert cuda.depth == 0
        engine._context.refuses.clear()
        assert engine.run(images(2)).shape == (2, 5)

    def test_cuda_fails(self, cuda, engine):
        cuda.fails.add("synchronize")
        with pytest.raises(ExecutionError, match="CUDA failed: synchronize failed: out of memory"):
            engine.run(images(2))
        assert cuda.depth == 0


class TestGraph:
    CAPTURE = ("begin capture", "copy in", "execute", "copy out", "end capture", "instantiate", "free recording")

    def test_the_second_run_of_a_shape_makes_it_and_later_ones_launch_it(self, cuda, engine):
        assert run(engine, cuda, 2) == ["set_input_shape", *PLAIN_RUN]
        assert run(engine, cuda, 2) == [*self.CAPTURE, "launch", "synchronize"]
        assert run(engine, cuda, 2, 2) == ["launch", "synchronize"] * 2

    def test_only_this_thread_is_captured(self, cuda, engine):
        run(engine, cuda, 2, 2)
        assert ("begin capture", 1) in cuda.calls  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

    def test_another_shape_drops_it(self, cuda, engine):
        run(engine, cuda, 2, 2)
        assert run(engine, cuda, 3) == ["free graph", "set_input_shape", *PLAIN_RUN]

    @pytest.mark.parametrize(
        ("call", "calls"),
        [
            ("begin capture", ["begin capture"]),
            ("end capture", CAPTURE[:5]),
            ("instantiate", CAPTURE),
        ],
    )
    def test_where_it_is_refused_the_engine_runs_without(self, cuda, engine, call, calls):
        run(engine, cuda, 2)
        cuda.fails.add(call)
        assert run(engine, cuda, 2) == [*calls, *PLAIN_RUN]
        assert run(engine, cuda, 2) == PLAIN_RUN

    def test_where_the_work_cannot_be_captured_the_engine_runs_without(self, cuda, engine):
        run(engine, cuda, 2)
        execute = engine._context.execute_async_v3
        engine._context.execute_async_v3 = lambda stream: cuda.names()[-2] != "begin capture" and execute(stream)
        assert run(engine, cuda, 2) == ["begin capture", "copy in", "end capture", "free recording", *PLAIN_RUN]

    def test_where_it_does_not_launch_the_engine_runs_without(self, cuda, engine):
        run(engine, cuda, 2, 2)
        cuda.fails.add("launch")
        assert run(engine, cuda, 2) == ["launch", *PLAIN_RUN]


class TestClose:
    def test_everything_goes_in_the_order_of_need(self, cuda, engine):
        run(engine, cuda, 2, 2)
        before = len(cuda.calls)
        engine.close()
        gc.collect()
        assert cuda.names()[before:] == [
            *("push", "free graph", "synchronize"),
            *("free", "free pinned", "free", "free pinned"),
            *("free context", "free engine", "free runtime"),
        ]

    def test_twice_is_once(self, cuda, engine):
        engine.close()
        before = len(cuda.calls)
        engine.close()
        assert cuda.names()[before:] == ["push"]

    def test_a_dead_gpu_is_no_error(self, cuda, engine):
        cuda.fails.add("push")
        engine.close()
        cuda.fails.clear()
