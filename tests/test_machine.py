import os
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
