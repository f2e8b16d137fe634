"""BoxVIS, tiny, from boxes only on ToyVIS: the run of ``make quickstart``."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.toyvis import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_tiny_toyvis import *
    from .._base_.schedules.tiny import *

# masks bulge where a box leaves room, and a teacher hands that on: its masks are drawn to the
# colours of the frame first, and are then worth as much as true ones (docs/en/learning.md); on
# ToyVIS-hard, whose colours do not end with the object, that alone costs more than it gains
model['pseudo_masks']['refine'] = dict(type='AffinityRefinement', theta=5.0)
model['criterion']['loss_pseudo'].update(
    mask_weight=5.0, dice_weight=5.0, importance_sample_ratio=0.75
)

# 900 steps are too few for a teacher that forgets over 1000
custom_hooks = [dict(type='EMATeacherHook', momentum=0.01)]
