"""Mixing: real videos and pseudo clips from real images, drawn 3:1, boxes only; a short run."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.davis_mini import *
    from .._base_.datasets.small_images import coco_train
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_tiny import *
    from .._base_.schedules.tiny import *

max_iters = 200
model['network']['track_head']['num_classes'] = 10
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
default_hooks['checkpoint'].update(interval=100)
auto_scale_lr.update(base_batch_size=2)
custom_hooks = [dict(type='EMATeacherHook', momentum=0.01)]

# set one by one: update() would merge them into what is there
train_dataloader['sampler'] = dict(type='MixedSampler', weights=[3, 1], same_orientation=2)
train_dataloader['collate_fn'] = dict(type='pseudo_collate')
train_dataloader['dataset'] = dict(type='ConcatDataset', datasets=[davis_train, coco_train])
