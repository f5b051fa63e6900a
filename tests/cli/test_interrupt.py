import contextlib
import signal

import pytest

from vimdeploy.cli.interrupt import interrupts_kept


def press():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def before():
    """The handler is the old one again after every test."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interrupt_is_one():
    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        press()


def test_an_interrupt_that_became_an_error_is_one_again():
    def work():
        try:
            press()
        except KeyboardInterrupt as interrupt:
            raise RuntimeError("Failed to export the model") from interrupt

    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        work()


def test_an_interrupt_that_was_swallowed_comes_at_the_end():
    done = []

    def work():
        with contextlib.suppress(KeyboardInterrupt):
            press()
        done.append("the rest")

    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        work()
    assert done == ["the rest"]


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="of its own"), interrupts_kept():
        raise RuntimeError("of its own")


def test_nothing_happens_without_either():
    with interrupts_kept():
        pass
