"""The assessment of a spec's task."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hscc.pipeline.params import Params
from hscc.pipeline.tasks.assessment.base import AnyAssessment
from hscc.pipeline.tasks.assessment.classification import ClassificationAssessment
from hscc.pipeline.tasks.assessment.segmentation import SegmentationAssessment
from hscc.pipeline.tasks.assessment.targets import MultilabelAssessment, RegressionAssessment

_ASSESSMENTS: dict[str, type[AnyAssessment]] = {
    each.name: each
    for each in (ClassificationAssessment, SegmentationAssessment, MultilabelAssessment, RegressionAssessment)
}


def assessment_of(params: Params, manifest: pd.DataFrame, workspace: Path) -> AnyAssessment:
    """The assessment of the task that ``data.task`` names; arguments as of `Assessment`."""
    return _ASSESSMENTS[params.data.task](params, manifest, workspace)
