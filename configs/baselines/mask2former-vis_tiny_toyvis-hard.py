"""The pixel-supervised twin of boxvis_tiny_toyvis-hard.py: same network, data, seed and steps."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.toyvis_hard import *
    from .._base_.default_runtime import *
    from .._base_.models.mask2former_vis_tiny import *
    from .._base_.schedules.tiny import *

train_dataloader['dataset'].update(ann_file='instances.json', load_masks=True)
custom_hooks = []
