import contextlib
import io
import signal
import subprocess
import sys
import threading

import onnx
import pytest
from onnx import TensorProto, helper

from vimdeploy.cli.signals import ended_by_signals, signals_kept


class TestInterrupts:
    @pytest.fixture(autouse=True)
    def before(self):
        """The handler is the old one again after every test."""
        handler = signal.getsignal(signal.SIGINT)
        yield
        assert signal.getsignal(signal.SIGINT) is handler

    def press(self):
        signal.raise_signal(signal.SIGINT)

    def test_one_is_one(self):
        with pytest.raises(KeyboardInterrupt), ended_by_signals(), signals_kept():
            self.press()

    def test_one_that_became_an_error_is_one_again(self):
        def work():
            try:
                self.press()
            except KeyboardInterrupt as interrupt:
                raise RuntimeError("Failed to export the model") from interrupt

        with pytest.raises(KeyboardInterrupt), ended_by_signals(), signals_kept():
            work()

    def test_one_that_was_swallowed_comes_at_the_end(self):
        done = []

        def work():
            with contextlib.suppress(KeyboardInterrupt):
                self.press()
            done.append("the rest")

        with pytest.raises(KeyboardInterrupt), ended_by_signals(), signals_kept():
            work()
        assert done == ["the rest"]

    def test_other_errors_pass(self):
        with pytest.raises(RuntimeError, match="of its own"), ended_by_signals(), signals_kept():
            raise RuntimeError("of its own")

    def test_nothing_happens_without_either(self):
        with ended_by_signals(), signals_kept():
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
class TestEnding:
    @pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
    def test_a_signal_unwinds_with_its_code(self, name, code):
        def work():
            with ended_by_signals(), contextlib.closing(undone):
                signal.raise_signal(getattr(signal, name))

        undone = io.StringIO()
        with pytest.raises(SystemExit) as ended:
            work()
        assert (ended.value.code, undone.closed) == (code, True)

    def test_ctrl_c_stays_what_it_is(self):
        with pytest.raises(KeyboardInterrupt), ended_by_signals():
            signal.raise_signal(signal.SIGINT)

    def test_all_is_as_before_at_the_end(self):
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        threads = threading.active_count()
        with ended_by_signals():
            assert signal.getsignal(signal.SIGTERM) != before[1]
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
        assert signal.set_wakeup_fd(-1) == -1
        for thread in threading.enumerate():
            if thread.daemon and thread.name.endswith("(_watch)"):
                thread.join(10)
        assert threading.active_count() <= threads

    def test_other_threads_are_left_alone(self):
        done = []

        def work():
            with ended_by_signals():
                done.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert done == [True]


def endless(model):
    """A model whose last node never ends."""
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, None)],
        [value("go_on", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, None)],
    )
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [1]))
    model.graph.node.append(helper.make_node("Loop", ["", "yes", "before"], [output], body=body, name="forever"))
    return model


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_model_that_never_ends_is_stopped(command, tiny_onnx, tmp_path, picture, number, code):
    path = tmp_path / "endless.onnx"
    onnx.save(endless(onnx.load(tiny_onnx)), path)
    waiting = (
        "import signal, sys, threading, os; from vimdeploy.runtimes import onnxruntime as o; run = o.run_session\n"
        "def told(*a): print('running', flush=True); return run(*a)\n"
        "o.run_session = told\n"
        "from vimdeploy.cli import main; main()"
    )
    arguments = [sys.executable, "-c", waiting, "run", path, picture]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "running\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said
