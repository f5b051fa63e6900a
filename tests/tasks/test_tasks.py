import dataclasses

import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.tasks import TASKS, task_by_name, task_of
from vimdeploy.tasks.base import Task


def test_tasks_stand_under_their_names():
    assert list(TASKS) == ["classification", "features"]
    assert all(isinstance(task, Task) and task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_task_has_words_for_people(task):
    assert task.summary
    assert len(task.counts) == 2
    assert all(task.counts)


def test_by_name():
    assert task_by_name("features") is TASKS["features"]


@pytest.mark.parametrize("name", ["depth", ""])
def test_by_a_name_that_is_none(name):
    with pytest.raises(ConfigError, match=f"task must be one of classification, features, found '{name}'"):
        task_by_name(name)


def test_the_task_of_a_file(tiny_info):
    assert task_of(tiny_info) is TASKS["classification"]
    assert task_of(dataclasses.replace(tiny_info, task="")) is None
    with pytest.raises(ConfigError, match="found 'depth'"):
        task_of(dataclasses.replace(tiny_info, task="depth"))
