"""BoxVIS, tiny, from boxes only on ToyVIS-hard."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.toyvis_hard import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_tiny_toyvis import *
    from .._base_.schedules.tiny import *

# in a strong texture a pair of neighbours seldom has one colour: those 6 pixels away, two of them
# diagonal, find it again behind the other colour (tools/analysis_tools/fit_masks.py); but before a
# network tells objects apart, so many pairs want one label everywhere
model['criterion']['loss_pair'].update(loss_weight=1.0, num_neighbors=9, dilation=6, color_thr=0.05)
model['pair_warmup'] = 0.3

# what is alike in an object and its background its colours tell as a whole; such pseudo masks are
# worth as much as true ones
model['pseudo_masks']['refine'] = [
    dict(type='ColorModelRefinement'),
    dict(type='AffinityRefinement', theta=5.0),
]
model['criterion']['loss_pseudo'].update(
    mask_weight=5.0, dice_weight=5.0, importance_sample_ratio=0.75
)

# 900 steps are too few for a teacher that forgets over 1000
custom_hooks = [dict(type='EMATeacherHook', momentum=0.01)]
