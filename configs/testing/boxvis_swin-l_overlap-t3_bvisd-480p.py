"""Swin-L, the overlap tracker, clips of 3 frames; BVISD at 480p, held-out part."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bvisd import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_swin_l import *
    from .._base_.schedules.swin_l_32k import *

model['test_cfg'].update(tracker=dict(type='OverlapTracker'), clip_length=3)
