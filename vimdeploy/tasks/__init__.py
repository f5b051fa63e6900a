"""What models are for: one file per task, and the table of all of them."""

from __future__ import annotations

from vimdeploy.errors import ConfigError
from vimdeploy.model_info import ModelInfo
from vimdeploy.tasks.base import Task
from vimdeploy.tasks.classification import Classification
from vimdeploy.tasks.features import FeatureExtraction

TASKS: dict[str, Task] = {task.name: task for task in (Classification(), FeatureExtraction())}


def task_of(info: ModelInfo) -> Task | None:
    """The task of a file; None if it does not say.

    Raises:
        ConfigError: if this vimdeploy does not know it.
    """
    return task_by_name(info.task) if info.task else None


def task_by_name(name: str) -> Task:
    """One of ``TASKS``.

    Raises:
        ConfigError: for another name.
    """
    if name not in TASKS:
        raise ConfigError(f"task must be one of {', '.join(TASKS)}, found {name!r}.")
    return TASKS[name]
