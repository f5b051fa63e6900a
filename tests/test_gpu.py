"""The driver's answers, on a stand-in for its library."""

import ctypes

import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.gpu import Gpu, gpus


class Driver:
    """As many GPUs as are given by their names and compute capabilities."""

    def __init__(self, *found, status=0):
        self.found, self.status = found, status

    def cuInit(self, flags):  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = len(self.found)

    def cuDeviceGetName(self, name, size, index):  # noqa: N802
        name.value = self.found[index][0].encode()

    def cuDeviceGetAttribute(self, value, attribute, index):  # noqa: N802
        value._obj.value = {75: self.found[index][1], 76: self.found[index][2]}[attribute]


@pytest.fixture
def finds(monkeypatch):
    return lambda driver: monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)


def test_each_gpu_has_its_name_and_compute_capability(finds):
    finds(Driver(("Orin", 8, 7), ("NVIDIA H100", 9, 0), ("RTX 5090", 12, 0)))
    assert gpus() == [Gpu("Orin", "8.7"), Gpu("NVIDIA H100", "9.0"), Gpu("RTX 5090", "12.0")]


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        (Driver(status=100), r"an NVIDIA driver, but no GPU that it can use \(CUDA error 100\)"),
        (Driver(), "an NVIDIA driver, but no GPU$"),
    ],
)
def test_a_driver_alone_is_no_gpu(finds, driver, message):
    finds(driver)
    with pytest.raises(ConfigError, match=message):
        gpus()


def test_no_driver(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(ConfigError, match=r"^no NVIDIA driver \((libcuda\.so\.1|nvcuda\.dll)\)$"):
        gpus()
