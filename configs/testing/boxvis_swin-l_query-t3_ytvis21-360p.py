"""Swin-L, query matching, clips of 3 frames; YouTube-VIS 2021 at 360p, held-out part."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.ytvis21 import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_swin_l import *
    from .._base_.schedules.swin_l_32k import *

model['test_cfg'].update(tracker=dict(type='QueryTracker'), clip_length=3)
