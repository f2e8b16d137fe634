"""BoxVIS, tiny and from scratch, on 9 real videos, with pseudo masks by colour models.

Beyond the paper: what a young teacher marks of a real object is less than half of it, and the
colours of that half tell the rest (docs/en/learning.md).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.davis_mini import *
    from .._base_.models.boxvis_tiny import *
    from .._base_.schedules.davis_mini import *

model['network']['track_head']['num_classes'] = 10
model['pseudo_masks']['refine'] = [
    dict(type='ColorModelRefinement'),
    dict(type='AffinityRefinement', theta=5.0),
]
# such masks are worth as much as true ones
model['criterion']['loss_pseudo'].update(
    mask_weight=5.0, dice_weight=5.0, importance_sample_ratio=0.75
)
custom_hooks = [dict(type='EMATeacherHook', momentum=0.005)]
