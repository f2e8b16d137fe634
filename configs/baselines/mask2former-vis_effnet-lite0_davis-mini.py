"""The pixel-supervised twin of boxvis_effnet-lite0_davis-mini.py: all but the loss is the same."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.davis_mini import *
    from .._base_.default_runtime import *
    from .._base_.models.mask2former_vis_effnet_lite0 import *
    from .._base_.schedules.tiny_pretrained import *

max_iters = 1600
model['network']['track_head']['num_classes'] = 10
train_cfg.update(max_iters=max_iters, val_interval=400)
param_scheduler[1].update(end=max_iters)
default_hooks['checkpoint'].update(interval=400, max_keep_ckpts=2)
train_dataloader['dataset'].update(ann_file='instances.json', load_masks=True)
custom_hooks = []
