"""The pixel-supervised twin of boxvis_tiny_davis-mini.py: same network, videos, seed and steps."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.davis_mini import *
    from .._base_.models.mask2former_vis_tiny import *
    from .._base_.schedules.davis_mini import *

model['network']['track_head']['num_classes'] = 10
train_dataloader['dataset'].update(ann_file='instances.json', load_masks=True)
custom_hooks = []
