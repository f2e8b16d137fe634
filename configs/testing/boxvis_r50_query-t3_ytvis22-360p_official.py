"""R50, query matching, clips of 3 frames; YouTube-VIS 2022 at 360p, official validation set."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.ytvis21 import *
    from .._base_.datasets.ytvis22_official import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

model['test_cfg'].update(tracker=dict(type='QueryTracker'), clip_length=3)
