"""R50, the overlap tracker, clips of one frame; OVIS at 480p, held-out part."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.ovis import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

model['test_cfg'].update(tracker=dict(type='OverlapTracker'), clip_length=1)
