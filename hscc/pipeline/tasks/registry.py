"""The task of a spec."""

from __future__ import annotations

from hscc.pipeline.params import Params
from hscc.pipeline.tasks.base import Task
from hscc.pipeline.tasks.classification import Classification
from hscc.pipeline.tasks.multilabel import Multilabel
from hscc.pipeline.tasks.regression import Regression
from hscc.pipeline.tasks.segmentation import Segmentation

TASKS: dict[str, type[Task]] = {task.name: task for task in (Classification, Segmentation, Multilabel, Regression)}


def task_of(params: Params) -> Task:
    """The task that ``data.task`` names."""
    return TASKS[params.data.task](params)
