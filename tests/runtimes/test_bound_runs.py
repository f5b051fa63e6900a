"""What runs on a GPU runs on the CPU here: ONNX Runtime is real, its places are in the CPU's memory, and so are arrays
"on the GPU"; the driver is a stand-in that copies within it."""

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.stand_in_tensorrt import Foreign

from vimdeploy.errors import ExecutionError, InputError
from vimdeploy.runtimes import bound_runs
from vimdeploy.runtimes.bound_runs import CapturedRuns
from vimdeploy.runtimes.cuda_streams import LEGACY_STREAM
from vimdeploy.runtimes.load import load
from vimdeploy.runtimes.runs import allow_runs, stop_runs

CALLERS, OURS = 77, 9
"""Handles of streams: a caller's, and the one that a session was opened with."""


def pictures(batch, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, 3, 32, 32), dtype=np.float32)


@pytest.fixture
def wanted(tiny_onnx):
    """What a session of the CPU gives."""
    session = load(tiny_onnx, device="cpu")
    return lambda array: session.run(array)["logits"]


@pytest.fixture
def session(tiny_onnx, monkeypatch):
    """A session that takes itself for one of a GPU."""
    monkeypatch.setattr(bound_runs, "_MEMORY", "cpu")
    session = load(tiny_onnx, device="cpu")
    session.device = "cuda"
    return session


@pytest.fixture
def runs(session, monkeypatch):
    """For each run that was bound: its graph, whether it waits for its end, and its thread."""
    made = []
    real = session._session.run_with_iobinding

    def run(binding, options):
        entries = []
        for key, without in (("gpu_graph_id", None), ("disable_synchronize_execution_providers", "0")):
            try:
                entries.append(options.get_run_config_entry(key))
            except RuntimeError:  # it has none
                entries.append(without)
        made.append((entries[0], entries[1] != "1", threading.current_thread().name))
        real(binding, options)

    monkeypatch.setattr(session._session, "run_with_iobinding", run)
    return made


class TestOnTheGpu:
    @pytest.fixture(autouse=True)
    def driver(self, cuda, monkeypatch):
        """The stand-in, which takes ONNX Runtime's memory too."""

        def memory(address, size):
            return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

        monkeypatch.setattr(cuda, "bytes", memory)
        return cuda

    @pytest.mark.parametrize("batch", [1, 3])
    def test_outputs_are_there_too(self, session, runs, cuda, wanted, batch):
        array = pictures(batch)
        found = session.run(cuda.array(array))
        assert found.keys() == {"logits"}
        assert (found["logits"].gpu, found["logits"].shape, found["logits"].dtype) == (0, (batch, 5), np.float32)
        np.testing.assert_array_equal(found["logits"].numpy(), wanted(array))
        assert [run[:2] for run in runs] == [(None, True)]

    def test_outputs_are_written_where_they_are_wanted(self, session, cuda, wanted):
        array, place = pictures(2), cuda.array(np.zeros((2, 5), np.float32))
        found = session.run(cuda.array(array), outputs={"logits": place})
        assert found["logits"] is place
        np.testing.assert_array_equal(place.values, wanted(array))

    @pytest.mark.parametrize(
        ("outputs", "message"),
        [
            ({"logits": np.zeros((3, 5), np.float32)}, r"Wanted logits \(2, 5\) of float32, found \(3, 5\) of float32"),
            ({"logits": np.zeros((2, 5), np.int32)}, r"Wanted logits \(2, 5\) of float32, found \(2, 5\) of int32"),
            ({"maps": np.zeros((2, 5), np.float32)}, r"Wanted outputs among logits; found maps"),
        ],
    )
    def test_outputs_that_do_not_fit(self, session, cuda, outputs, message):
        with pytest.raises(InputError, match=message):
            session.run(cuda.array(pictures(2)), outputs={name: cuda.array(out) for name, out in outputs.items()})

    def test_inputs_that_do_not_fit(self, session, cuda):
        with pytest.raises(InputError, match="images"):
            session.run(cuda.array(np.zeros((2, 3, 32, 31), np.float32)))

    @pytest.mark.parametrize(("stream", "handle"), [(None, LEGACY_STREAM), (CALLERS, CALLERS)])
    def test_it_begins_once_inputs_are_written_and_ends_once_outputs_are(self, session, cuda, stream, handle):
        images = pictures(2)
        cuda.array(images)
        session.run(Foreign(images, stream=5), stream=stream)
        done = [call for call in cuda.calls if call[0] in ("record", "wait", "synchronize stream", "copy")]
        synchronize = ("synchronize stream", handle)
        assert done == [("record", 5), ("wait", handle), synchronize, ("copy", 2 * 5 * 4, handle), synchronize]

    def test_in_the_stream_that_it_was_opened_with_nothing_is_waited_for(self, session, runs, cuda):
        session._stream = OURS
        session.run(cuda.array(pictures(2)), stream=CALLERS)
        assert [run[:2] for run in runs] == [(None, False)]
        done = [call for call in cuda.calls if call[0] in ("record", "wait", "synchronize stream", "copy")]
        ours, callers = [("record", OURS), ("wait", CALLERS)], [("record", CALLERS), ("wait", OURS)]
        assert done == [*callers, *callers, ("copy", 2 * 5 * 4, OURS), *ours]  # inputs, then memory for the output

    def test_in_its_own_stream_there_is_nobody_to_wait_for(self, session, runs, cuda):
        session._stream = OURS
        session.run(cuda.array(pictures(2)), stream=OURS)
        assert not {"record", "wait", "synchronize stream"}.intersection(cuda.names())
        cuda.calls.clear()
        session.run(cuda.array(pictures(2)))
        assert [call for call in cuda.calls if "stream" in call[0]] == [("synchronize stream", OURS)]
        assert [waits for _, waits, _ in runs] == [False, True]

    def test_by_graphs(self, session, runs, cuda, wanted):
        session._captured = CapturedRuns(session._session, ["logits"], 0)
        for seed in range(3):
            array = pictures(2, seed)
            np.testing.assert_array_equal(session.run(cuda.array(array))["logits"].numpy(), wanted(array))
        assert [run[:2] for run in runs] == [("-1", True), ("0", True), ("0", True)]

    def test_memory_is_given_back(self, session, cuda):
        images, before = cuda.array(pictures(2)), len(cuda.memory)
        found = session.run(images)
        assert len(cuda.memory) == before + 1
        del found
        assert len(cuda.memory) == before


class TestCaptured:
    @pytest.fixture
    def captured(self, session, runs, cuda):
        return CapturedRuns(session._session, ["logits"], 0)

    def test_the_first_run_of_a_shape_finds_places_and_the_others_use_its_graph(self, captured, runs, wanted):
        for batch in (2, 2, 1, 2, 1):
            array = pictures(batch, len(runs))
            np.testing.assert_array_equal(captured.run({"images": array})["logits"], wanted(array))
        assert [graph for graph, _, _ in runs] == ["-1", "0", "-1", "0", "1"]
        assert {thread for _, _, thread in runs} == {"cuda-graphs_0"}

    def test_shapes_beyond_the_first_few_run_without(self, captured, runs, wanted):
        for batch in [*range(1, bound_runs._MOST_GRAPHS + 2)] * 2:
            array = pictures(batch)
            np.testing.assert_array_equal(captured.run({"images": array})["logits"], wanted(array))
        second = [graph for graph, _, _ in runs[bound_runs._MOST_GRAPHS + 1 :]]
        assert second == [*map(str, range(bound_runs._MOST_GRAPHS)), "-1"]

    def test_what_was_given_and_found_stays_as_it_is(self, captured):
        array = pictures(2)
        before = array.copy()
        found = captured.run({"images": array})["logits"]
        kept = found.copy()
        for seed in (1, 2):
            captured.run({"images": pictures(2, seed)})
        np.testing.assert_array_equal(array, before)
        np.testing.assert_array_equal(found, kept)

    def test_threads_get_what_they_asked_for(self, captured, wanted):
        with ThreadPoolExecutor(4) as threads:
            arrays = [pictures(1 + seed % 3, seed) for seed in range(24)]
            found = threads.map(lambda array: captured.run({"images": array})["logits"], arrays)
            for array, answer in zip(arrays, found, strict=True):
                np.testing.assert_array_equal(answer, wanted(array))

    def test_a_failure_is_told_and_the_next_run_goes_on(self, captured, wanted):
        with pytest.raises(ExecutionError, match=r"^ONNX Runtime failed on images \(2, 3, 16, 16\): "):
            captured.run({"images": np.zeros((2, 3, 16, 16), np.float32)})
        np.testing.assert_array_equal(captured.run({"images": pictures(2)})["logits"], wanted(pictures(2)))

    def test_they_are_stopped_with_all_others(self, captured):
        captured.run({"images": pictures(2)})
        stop_runs()
        try:
            for batch in (1, 2):
                with pytest.raises(ExecutionError, match="terminate"):
                    captured.run({"images": pictures(batch)})
        finally:
            allow_runs()
        assert captured.run({"images": pictures(2)})["logits"].shape == (2, 5)
