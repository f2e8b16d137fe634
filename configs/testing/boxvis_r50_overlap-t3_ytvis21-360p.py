"""R50, the overlap tracker, clips of 3 frames; YouTube-VIS 2021 at 360p, held-out part."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.ytvis21 import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

model['test_cfg'].update(tracker=dict(type='OverlapTracker', max_unmatched_clips=30), clip_length=3)
