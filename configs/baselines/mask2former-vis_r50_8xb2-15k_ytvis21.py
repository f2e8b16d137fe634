"""Mask2Former-VIS, R50, from masks: the pixel-supervised twin.

Its masks are in data/bvisd if that was built with ``--masks all``.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.ytvis21 import *
    from .._base_.default_runtime import *
    from .._base_.models.mask2former_vis_r50 import *
    from .._base_.schedules.r50_15k import *

# Mask2Former, COCO instances, converted by tools/model_converters/from_official.py
load_from = 'checkpoints/mask2former_r50_coco-instance.pth'

train_dataloader['dataset']['ytvis'].update(load_masks=True)
custom_hooks = []
