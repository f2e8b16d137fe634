"""BoxVIS, tiny on a pretrained backbone, from the boxes of 9 real videos; scored on their masks."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.davis_mini import *
    from .._base_.models.boxvis_effnet_lite0 import *
    from .._base_.schedules.davis_mini import *

model['network']['track_head']['num_classes'] = 10
custom_hooks = [dict(type='EMATeacherHook', momentum=0.005)]
optim_wrapper['paramwise_cfg']['custom_keys']['backbone'] = dict(lr_mult=0.1)
