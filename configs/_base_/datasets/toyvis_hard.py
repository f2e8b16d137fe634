"""ToyVIS-hard: backgrounds painted like the objects, look-alikes, faster motion."""

from mmengine.config import read_base

with read_base():
    from .toyvis import *

data_root = 'data/toyvis_hard'
generate = dict(num_train=200, num_val=30, seed=0, difficulty='hard')

for loader in (train_dataloader, val_dataloader):
    loader['dataset'].update(data_root=data_root, generate=generate)
del loader
test_dataloader = val_dataloader
val_evaluator = dict(type='VISMetric', ann_file=f'{data_root}/val/instances.json')
test_evaluator = val_evaluator
