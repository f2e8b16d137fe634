"""Table 5 in small: real videos, drawn videos, images as pseudo clips; objects are one class."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.davis_mini import *
    from .._base_.datasets.small_images import coco_train
    from .._base_.datasets.toyvis import toyvis_train
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_effnet_lite0 import *
    from .._base_.schedules.tiny import *

max_iters = 800
model['network']['track_head']['num_classes'] = 1
train_cfg.update(max_iters=max_iters)
param_scheduler[1].update(end=max_iters)
custom_hooks = [dict(type='EMATeacherHook', momentum=0.005)]
optim_wrapper['paramwise_cfg']['custom_keys']['backbone'] = dict(lr_mult=0.1)

# the classes of the sets differ
object_class = dict(classes=('object',), category_map='object')
davis_train.update(object_class)
coco_train.update(object_class)
toyvis_train.update(pipeline=train_pipeline, **object_class)
# set one by one: update() would merge them into what is there
train_dataloader['sampler'] = dict(
    type='MixedSampler', weights=[2, 1, 1], seed=0, same_orientation=2
)
train_dataloader['collate_fn'] = dict(type='pseudo_collate')
train_dataloader['dataset'] = dict(
    type='ConcatDataset', datasets=[davis_train, toyvis_train, coco_train]
)
for loader in (val_dataloader, test_dataloader):
    loader['dataset'].update(object_class)
for evaluator in (val_evaluator, test_evaluator):
    evaluator.update(class_agnostic=True, category_ids=[1])
del loader, evaluator
