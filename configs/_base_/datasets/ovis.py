"""OVIS alone, mapped to the 40 classes of BVISD as the paper's single-set runs are."""

from mmengine.config import read_base

with read_base():
    from .pipelines import *

data_root = 'data'

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='MixedSampler', weights=[1], same_orientation=2),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='BVISD',
        ovis=dict(
            data_root=data_root,
            ann_file='bvisd/ovis_train.json',
            img_root='OVIS/train',
            clip=clip,
            pipeline=video_pipeline,
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
        ann_file='bvisd/ovis_valid.json',
        img_root='OVIS/train',
        test_mode=True,
        pipeline=test_pipeline_480,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='VISMetric', ann_file=f'{data_root}/bvisd/ovis_valid.json')
test_evaluator = val_evaluator
