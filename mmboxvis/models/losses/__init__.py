"""Losses of box supervision: one registered class a file, the maths in ``functional``."""

from .pairwise_affinity_loss import PairwiseAffinityLoss
from .projection_loss import ProjectionLoss
from .pseudo_mask_loss import PseudoMaskLoss
from .stpa_loss import STPALoss
from .temporal_match_loss import TemporalMatchLoss

__all__ = [
    'PairwiseAffinityLoss',
    'ProjectionLoss',
    'PseudoMaskLoss',
    'STPALoss',
    'TemporalMatchLoss',
]
