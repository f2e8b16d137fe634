"""The official validation set of OVIS, whose annotations are on the benchmark's server.

Results are written in its own categories, to be submitted; nothing is scored here.
"""

from mmengine.config import read_base

with read_base():
    from .pipelines import *

data_root = 'data'

test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=video_sampler,
    dataset=dict(
        # maps the 40 classes of BVISD back to the categories of the file
        type='BVISD',
        ovis=dict(
            data_root=data_root,
            ann_file='OVIS/annotations_valid.json',
            img_root='OVIS/valid',
            test_mode=True,
            pipeline=test_pipeline_480,
        ),
    ),
)
test_evaluator = dict(
    type='VISMetric',
    ann_file=f'{data_root}/OVIS/annotations_valid.json',
    format_only=True,
    outfile_prefix='work_dirs/ovis_official/results',
)
