"""What the tests of this folder share."""

import sys
from types import ModuleType

import pytest
from stand_in_tensorrt import Cuda

from vimdeploy.runtimes import cuda_graph, engine_on_gpu


@pytest.fixture
def cuda(monkeypatch):
    """A stand-in for pycuda and for the driver's graphs, in place of both."""
    stand_in = Cuda()
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", stand_in)
    monkeypatch.setattr(cuda_graph, "driver", lambda: stand_in)
    engine_on_gpu._primary_context.cache_clear()
    yield stand_in
    engine_on_gpu._primary_context.cache_clear()
