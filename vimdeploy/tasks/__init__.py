"""What models are for: one file per task, and the table of all of them."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from vimdeploy.errors import ConfigError

if TYPE_CHECKING:
    from vimdeploy.model_info import ModelInfo
    from vimdeploy.tasks.base import Task

TASKS = {
    "classification": "Classification",
    "features": "FeatureExtraction",
    "pyramid": "Pyramid",
    "segment": "Segmentation",
    "detect": "Detection",
}
"""The class of each task, in the file of the task's name; imported when it is used, so that ``--help`` stays light."""


def task_of(info: ModelInfo) -> Task | None:
    """The task of a file; None if it does not say.

    Raises:
        ConfigError: if this vimdeploy does not know it.
    """
    return task_by_name(info.task) if info.task else None


@cache
def task_by_name(name: str) -> Task:
    """One of ``TASKS``.

    Raises:
        ConfigError: for another name.
    """
    if name not in TASKS:
        raise ConfigError(f"task must be one of {', '.join(TASKS)}, found {name!r}.")
    task: Task = getattr(import_module(f"vimdeploy.tasks.{name}"), TASKS[name])()
    return task
