"""The pixel-supervised twin of boxvis_effnet-lite0_davis-mini.py: all but the loss is the same."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.davis_mini import *
    from .._base_.models.mask2former_vis_effnet_lite0 import *
    from .._base_.schedules.davis_mini import *

model['network']['track_head']['num_classes'] = 10
train_dataloader['dataset'].update(ann_file='instances.json', load_masks=True)
custom_hooks = []
optim_wrapper['paramwise_cfg']['custom_keys']['backbone'] = dict(lr_mult=0.1)
