"""The official validation set of YouTube-VIS 2019, whose annotations are on the benchmark's server.

Results are written in its own categories, to be submitted; nothing is scored here. A vehicle is
submitted as sedan and as truck, a bird as owl and as eagle, a monkey also as ape; hands are not.
"""

from mmengine.config import read_base

with read_base():
    from .ytvis21_official import *

test_dataloader['dataset']['ytvis'].update(
    version='2019',
    ann_file='ytvis_2019/valid/instances.json',
    img_root='ytvis_2019/valid/JPEGImages',
)
test_evaluator.update(
    ann_file=f'{data_root}/ytvis_2019/valid/instances.json',
    outfile_prefix='work_dirs/ytvis19_official/results',
)
