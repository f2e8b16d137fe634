"""The official validation set of YouTube-VIS 2022, whose annotations are on the benchmark's server.

Its long videos need no more memory than the others. Results are written in its own categories, to
be submitted; nothing is scored here.
"""

from mmengine.config import read_base

with read_base():
    from .ytvis21_official import *

test_dataloader['dataset']['ytvis'].update(
    version='2022',
    ann_file='ytvis_2022/valid/instances.json',
    img_root='ytvis_2022/valid/JPEGImages',
)
test_evaluator.update(
    ann_file=f'{data_root}/ytvis_2022/valid/instances.json',
    outfile_prefix='work_dirs/ytvis22_official/results',
)
