"""BoxVIS, tiny on a pretrained backbone, from the boxes of 9 real videos; scored on their masks."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.davis_mini import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_effnet_lite0 import *
    from .._base_.schedules.tiny_pretrained import *

max_iters = 1600
model['network']['track_head']['num_classes'] = 10
# the paper's: the project's figures on these videos were measured with them
model['criterion']['loss_pair']['color_thr'] = 0.3
model['confidence'] = dict(type='ConfidenceSchedule', mode='rising')
train_cfg.update(max_iters=max_iters, val_interval=400)
param_scheduler[1].update(end=max_iters)
default_hooks['checkpoint'].update(interval=400, max_keep_ckpts=2)
custom_hooks = [dict(type='EMATeacherHook', momentum=0.005)]
