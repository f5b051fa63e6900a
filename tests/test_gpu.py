"""The driver's answers, on a stand-in for its library."""

import ctypes

import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.gpu import Device, Gpu, _primary_context, device_of, driver, gpu_of, gpus, memory_in_use


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


class DriverWithMemory(Driver):
    """A GPU of 100 bytes, some of them free; a context is current between push and pop alone."""

    def __init__(self, free=0, refuses=""):
        super().__init__(("NVIDIA H100", 9, 0))
        self.free, self.refuses = free, refuses
        self.retained, self.current = 0, []

    def cuDeviceGet(self, device, index):  # noqa: N802
        device._obj.value = 7 + index
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):  # noqa: N802
        assert device.value in (7, 8)
        self.retained += 1
        context._obj.value = 1234
        return 2 if self.refuses == "context" else 0

    def cuCtxPushCurrent_v2(self, context):  # noqa: N802
        self.current.append(context.value)
        return 0

    def cuMemGetInfo_v2(self, free, total):  # noqa: N802
        assert self.current == [1234]
        free._obj.value, total._obj.value = self.free, 100
        return 700 if self.refuses == "memory" else 0

    def cuCtxPopCurrent_v2(self, context):  # noqa: N802
        context._obj.value = self.current.pop()
        return 0


@pytest.fixture
def finds(monkeypatch):
    def use(found):
        _primary_context.cache_clear()
        driver.cache_clear()
        monkeypatch.setattr(ctypes, "CDLL", lambda name: found)

    yield use
    _primary_context.cache_clear()
    driver.cache_clear()


def test_each_gpu_has_its_name_and_compute_capability(finds):
    finds(Driver(("Orin", 8, 7), ("NVIDIA H100", 9, 0), ("RTX 5090", 12, 0)))
    assert gpus() == [Gpu("Orin", "8.7"), Gpu("NVIDIA H100", "9.0"), Gpu("RTX 5090", "12.0")]


@pytest.mark.parametrize(
    ("name", "device", "shown"),
    [
        ("auto", Device("auto"), "auto"),
        ("cpu", Device("cpu"), "cpu"),
        ("cuda", Device("cuda"), "cuda"),
        ("cuda:0", Device("cuda"), "cuda"),
        ("cuda:12", Device("cuda", 12), "cuda:12"),
        (Device("cuda", 3), Device("cuda", 3), "cuda:3"),
    ],
)
def test_a_device_has_pytorchs_name(name, device, shown):
    assert device_of(name) == device
    assert str(device) == shown


@pytest.mark.parametrize("name", ["", "tpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "auto:1", "cuda:99999", 1])
def test_other_names_stand_for_none(name):
    with pytest.raises(ConfigError, match=rf"^device must be auto, cpu, cuda, or cuda:N .*; found '{name}'\.$"):
        device_of(name)


def test_a_device_is_one_of_the_gpus(finds, monkeypatch):
    monkeypatch.setattr("vimdeploy.gpu.gpus", gpus)
    finds(Driver(("Orin", 8, 7), ("NVIDIA H100", 9, 0)))
    assert gpu_of(Device("cuda", 1)) == Gpu("NVIDIA H100", "9.0")
    with pytest.raises(ConfigError, match=r"^no GPU cuda:2, but cuda:0 \(Orin\), cuda:1 \(NVIDIA H100\)$"):
        gpu_of(Device("cuda", 2))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Driver(status=100), r"an NVIDIA driver, but no GPU that it can use \(CUDA error 100\)"),
        (Driver(), "an NVIDIA driver, but no GPU$"),
    ],
)
def test_a_driver_alone_is_no_gpu(finds, found, message):
    finds(found)
    with pytest.raises(ConfigError, match=message):
        gpus()


def test_no_driver(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    driver.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(ConfigError, match=r"^no NVIDIA driver \((libcuda\.so\.1|nvcuda\.dll)\)$"):
        gpus()


def test_memory_in_use_is_what_is_not_free(finds):
    found = DriverWithMemory(free=70)
    finds(found)
    assert memory_in_use() == 30
    found.free = 5
    assert memory_in_use() == 95
    assert (found.retained, found.current) == (1, [])


@pytest.mark.parametrize(("refuses", "status"), [("context", 2), ("memory", 700)])
def test_a_gpu_that_cannot_be_used(finds, refuses, status):
    found = DriverWithMemory(refuses=refuses)
    finds(found)
    with pytest.raises(ConfigError, match=rf"GPU that cannot be used \(CUDA error {status}\)"):
        memory_in_use()
    assert found.current == []


def test_each_gpu_has_its_own_context(finds):
    found = DriverWithMemory(free=70)
    finds(found)
    for index in (1, 1, 0):
        memory_in_use(index)
    assert found.retained == 2


def test_memory_without_a_gpu(finds):
    finds(Driver(status=100))
    with pytest.raises(ConfigError, match="no GPU that it can use"):
        memory_in_use()
