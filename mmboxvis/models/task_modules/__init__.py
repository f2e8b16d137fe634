"""Matching of queries to instances, pseudo masks, and how confident these must be."""

from .affinity_refinement import AffinityRefinement
from .box_supervised_assigner import BoxSupervisedAssigner
from .clip_assigner import ClipAssigner, hungarian
from .color_model_refinement import ColorModelRefinement
from .confidence_schedule import ConfidenceSchedule
from .mask_assigner import MaskAssigner
from .match_costs import (
    classification_cost,
    point_bce_cost,
    point_dice_cost,
    projection_cost,
    query_quality,
)
from .pseudo_mask_generator import PseudoMaskGenerator

__all__ = [
    'AffinityRefinement',
    'BoxSupervisedAssigner',
    'ClipAssigner',
    'ColorModelRefinement',
    'ConfidenceSchedule',
    'MaskAssigner',
    'PseudoMaskGenerator',
    'classification_cost',
    'hungarian',
    'point_bce_cost',
    'point_dice_cost',
    'projection_cost',
    'query_quality',
]
