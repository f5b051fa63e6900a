import os
import sys
from importlib.metadata import version

import pytest

from vimdeploy import machine
from vimdeploy.errors import ConfigError


def test_names_what_the_numbers_depend_on():
    found = machine.describe_machine()
    assert 1 <= found["cores"] <= os.cpu_count()
    assert found["versions"]["vimdeploy"] == version("vimdeploy")
    assert found["processor"] != ""
    assert set(found["versions"]) <= set(machine._PACKAGES)


def test_a_machine_that_tells_nothing(monkeypatch):
    def none():
        raise ConfigError("none")

    monkeypatch.setattr(machine, "gpus", none)
    monkeypatch.setattr(machine, "library_info", none)
    found = machine.describe_machine()
    assert (found["gpus"], found["instruction_set"]) == ([], "")


@pytest.mark.parametrize(("package", "found"), [("numpy", version("numpy")), ("vimdeploy-of-nobody", None)])
def test_the_version_of_a_package(package, found):
    assert machine.installed_version(package) == found


class TestShares:
    """What a container may use of a machine."""

    @pytest.fixture
    def group(self, monkeypatch):
        def set_files(**files):
            monkeypatch.setattr(machine, "_of_control_group", lambda name: files.get(name.replace(".", "_"), ""))

        return set_files

    @pytest.mark.parametrize(
        ("quota", "cores"), [("150000 100000", 2), ("20000 100000", 1), ("max 100000", 8), ("", 8)]
    )
    def test_of_cores(self, group, monkeypatch, quota, cores):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
        group(cpu_max=quota)
        assert machine.usable_cores() == cores

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells these numbers")
    @pytest.mark.parametrize(("most", "taken", "left"), [("3000", "1000", 2011), ("1000", "3000", 0)])
    def test_of_memory(self, group, most, taken, left):
        """What files that were read take is given up for others."""
        group(memory_max=most, memory_current=taken, memory_stat="anon 500\ninactive_file 10\nactive_file 1")
        assert machine.memory_left() == left

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells these numbers")
    def test_without_a_bound(self, group):
        group(memory_max="max", memory_current="5")
        assert machine.memory_left() > 1 << 20
