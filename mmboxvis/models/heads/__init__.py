"""The head: features of a clip to predictions, and predictions to losses."""

from .boxvis_head import BoxVISHead
from .criteria import BoxSupervisedCriterion, MaskSupervisedCriterion

__all__ = ['BoxSupervisedCriterion', 'BoxVISHead', 'MaskSupervisedCriterion']
