"""Swin-L, the overlap tracker, clips of 3 frames; OVIS at 480p, official validation set."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.ovis import *
    from .._base_.datasets.ovis_official import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_swin_l import *
    from .._base_.schedules.swin_l_32k import *

model['test_cfg'].update(tracker=dict(type='OverlapTracker'), clip_length=3)
