"""The official validation set of YouTube-VIS 2019, whose annotations are on the benchmark's server.

Results are written in its own categories, to be submitted; nothing is scored here. A vehicle is
submitted as sedan and as truck, a bird as owl and as eagle, a monkey also as ape; hands are not.
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
        ytvis=dict(
            version='2019',
            data_root=data_root,
            ann_file='ytvis_2019/valid/instances.json',
            img_root='ytvis_2019/valid/JPEGImages',
            test_mode=True,
            pipeline=test_pipeline_360,
        ),
    ),
)
test_evaluator = dict(
    type='VISMetric',
    ann_file=f'{data_root}/ytvis_2019/valid/instances.json',
    format_only=True,
    outfile_prefix='work_dirs/ytvis19_official/results',
)
