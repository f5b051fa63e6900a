import dataclasses

import pytest

from vimdeploy.errors import ConfigError
from vimdeploy.tasks import TASKS, task_by_name, task_of
from vimdeploy.tasks.base import Task


def test_tasks_stand_under_their_names():
    assert list(TASKS) == ["classification", "features", "pyramid", "segment", "detect"]
    assert all(isinstance(task_by_name(name), Task) and task_by_name(name).name == name for name in TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_words_for_people(name):
    task = task_by_name(name)
    assert task.summary
    assert len(task.counts) == 2
    assert all(task.counts)


def test_by_name():
    assert type(task_by_name("features")).__name__ == TASKS["features"]


@pytest.mark.parametrize("name", ["depth", ""])
def test_by_a_name_that_is_none(name):
    with pytest.raises(
        ConfigError, match=f"task must be one of classification, features, pyramid, segment, detect, found '{name}'"
    ):
        task_by_name(name)


def test_the_task_of_a_file(tiny_info):
    assert task_of(tiny_info) is task_by_name("classification")
    assert task_of(dataclasses.replace(tiny_info, task="")) is None
    with pytest.raises(ConfigError, match="found 'depth'"):
        task_of(dataclasses.replace(tiny_info, task="depth"))
