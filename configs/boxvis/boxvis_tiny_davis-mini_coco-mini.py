"""Mixing: real videos and pseudo clips from real images, drawn 3:1, boxes only; a short run."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.davis_mini import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_tiny import *
    from .._base_.schedules.tiny import *

max_iters = 200
model['network']['track_head']['num_classes'] = 10
# the paper's: the project's figures on these videos were measured with them
model['criterion']['loss_pair']['color_thr'] = 0.3
model['confidence'] = dict(type='ConfidenceSchedule', mode='rising')
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
param_scheduler[1].update(end=max_iters)
custom_hooks = [dict(type='EMATeacherHook', momentum=0.01)]

image_pipeline = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(type='ImageToClip', num_frames=3),
    dict(
        type='RandomApply',
        prob=0.5,
        transforms=[
            dict(type='ClipResizeShortEdge', short_edges=(300, 350, 400), max_long=666),
            dict(type='ClipRandomCrop', min_size=160, max_size=240),
        ],
    ),
    dict(type='ClipResizeShortEdge', short_edges=(144, 160, 176, 192), max_long=352),
    dict(type='ClipRandomFlip', prob=0.5),
    dict(type='ClipRotate'),
    dict(type='PackClipInputs'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='MixedSampler', weights=[3, 1], seed=0, same_orientation=2),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            davis_train,
            dict(
                type='CocoClips',
                data_root=data_root + 'coco_mini',
                ann_file='instances.json',
                img_root='images',
                classes=classes,
                unknown_categories='drop',
                pipeline=image_pipeline,
            ),
        ],
    ),
)
