"""R50, query matching, clips of 3 frames; BVISD at 480p, held-out part."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bvisd import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

model['test_cfg'].update(tracker=dict(type='QueryTracker'), clip_length=3)
