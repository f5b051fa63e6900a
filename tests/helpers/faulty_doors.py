"""Doors with a fault each, for the tests of the campaign; functions of a module, because a worker imports them."""

import os
import signal
import sys
import time

from vimdeploy.errors import ImageError


def accepts(folder):
    assert [path.read_bytes() for path in folder.iterdir()] == [b"data"]


def refuses(folder):
    raise ImageError("This is not a picture.")


def refuses_without_a_word(folder):
    raise ImageError("")


def repeats_the_file(folder):
    raise ImageError("x" * 10_000)


def raises(folder):
    raise KeyError("something foreign")


def leaves(folder):
    sys.exit(0)


def dies(folder):
    print("the last word", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(folder):
    time.sleep(600)


def takes_all_memory(folder):
    bytes(1 << 40)
