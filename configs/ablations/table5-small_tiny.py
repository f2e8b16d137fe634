"""Table 5 in small: real videos, drawn videos, images as pseudo clips; objects are one class."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.davis_mini import *
    from .._base_.datasets.small_images import coco_train
    from .._base_.datasets.toyvis import toyvis_train
    from .._base_.datasets.toyvis import val_dataloader as toyvis_loader
    from .._base_.datasets.toyvis import val_evaluator as toyvis_evaluator
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_tiny import *
    from .._base_.schedules.tiny import *

max_iters = 600
model['network']['track_head']['num_classes'] = 1
train_cfg.update(max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler[1].update(end=max_iters)
custom_hooks = [dict(type='EMATeacherHook', momentum=0.01)]

# all sources come at the size of the drawn frames, which sets the price of a step
small = dict(short_edges=(96, 112), max_long=208)
train_pipeline[2].update(small)
davis_train['pipeline'] = train_pipeline
coco_train['pipeline'][4].update(small)
toyvis_train['pipeline'] = train_pipeline
test_pipeline = [dict(type='Resize', scale=(208, 112), keep_ratio=True)]

# the classes of the sets differ
object_class = dict(classes=('object',), category_map='object')
one_class = dict(class_agnostic=True, category_ids=[1])
davis_train.update(object_class)
coco_train.update(object_class)
toyvis_train.update(object_class)
# set one by one: update() would merge them into what is there
train_dataloader['batch_size'] = 4
train_dataloader['sampler'] = dict(type='MixedSampler', weights=[2, 1, 1], same_orientation=4)
train_dataloader['collate_fn'] = dict(type='pseudo_collate')
train_dataloader['dataset'] = dict(
    type='ConcatDataset', datasets=[davis_train, toyvis_train, coco_train]
)

davis_test = dict(val_dataloader['dataset'], pipeline=test_pipeline, **object_class)
davis_evaluator = dict(val_evaluator, **one_class)
val_dataloader['dataset'] = davis_test
val_evaluator = davis_evaluator
test_dataloader = val_dataloader
test_evaluator = davis_evaluator
# what run_ablation.py scores besides
more_tests = dict(
    seen=dict(dataset=davis_test, evaluator=davis_evaluator),
    toyvis=dict(
        dataset=dict(toyvis_loader['dataset'], **object_class),
        evaluator=dict(toyvis_evaluator, **one_class),
    ),
)
del small, object_class, one_class, davis_test, davis_evaluator, toyvis_loader, toyvis_evaluator
