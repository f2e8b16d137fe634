"""Mask2Former, tiny, from masks on single frames of other ToyVIS videos.

What weights for COCO instances are to the paper: what its trainings start from. The study sets
that end in ``-started`` (tools/analysis_tools/run_ablation.py) start from these.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.toyvis import *
    from .._base_.default_runtime import *
    from .._base_.models.mask2former_vis_tiny import *
    from .._base_.schedules.tiny import *

# drawn from another seed, so that no video of ToyVIS is among them
data_root = 'data/toyvis_stills'
generate = dict(num_train=400, num_val=30, seed=1)
for loader in (train_dataloader, val_dataloader):
    loader['dataset'].update(data_root=data_root, generate=generate)
del loader
train_dataloader['dataset'].update(
    ann_file='instances.json', load_masks=True, clip=dict(num_frames=1, frame_range=0)
)
test_dataloader = val_dataloader
val_evaluator = dict(type='VISMetric', ann_file=f'{data_root}/val/instances.json')
test_evaluator = val_evaluator
custom_hooks = []
