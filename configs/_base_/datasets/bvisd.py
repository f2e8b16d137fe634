"""BVISD: YouTube-VIS 2021, OVIS and COCO, drawn 2:1:1; boxes only.

The json files are written by tools/dataset_converters/build_bvisd.py.
"""

from mmengine.config import read_base

with read_base():
    from .pipelines import *

data_root = 'data'

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='MixedSampler', weights=[2, 1, 1], same_orientation=2),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='BVISD',
        ytvis=dict(
            data_root=data_root,
            ann_file='bvisd/ytvis21_train.json',
            img_root='ytvis_2021/train/JPEGImages',
            clip=clip,
            pipeline=video_pipeline,
        ),
        ovis=dict(
            data_root=data_root,
            ann_file='bvisd/ovis_train.json',
            img_root='OVIS/train',
            clip=clip,
            pipeline=video_pipeline,
        ),
        coco=dict(
            data_root=data_root,
            ann_file='bvisd/coco_train.json',
            img_root='coco/train2017',
            pipeline=image_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=video_sampler,
    dataset=dict(
        type='BoxVideo',
        data_root=data_root,
        ann_file='bvisd/bvisd_valid.json',
        img_root='',
        # any folder on these ways may be a link
        linked=['ytvis_2021/train/JPEGImages', 'OVIS/train'],
        test_mode=True,
        pipeline=test_pipeline_480,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='VISMetric', ann_file=f'{data_root}/bvisd/bvisd_valid.json')
test_evaluator = val_evaluator
