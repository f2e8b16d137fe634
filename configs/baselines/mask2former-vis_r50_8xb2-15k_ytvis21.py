"""Mask2Former-VIS, R50, from masks: the pixel-supervised twin.

Its masks are in data/bvisd if that was built with ``--masks all``.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.ytvis21 import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

# Mask2Former, COCO instances, converted by tools/model_converters/from_official.py
load_from = 'checkpoints/mask2former_r50_coco-instance.pth'

model = dict(
    type='Mask2FormerVIS',
    data_preprocessor=data_preprocessor,
    network=network,
    criterion=dict(
        type='MaskSupervisedCriterion',
        cls_weight=2.0,
        no_object_weight=0.1,
        assigner=dict(type='MaskAssigner'),
        loss_mask=dict(
            type='PseudoMaskLoss', mask_weight=5.0, dice_weight=5.0, importance_sample_ratio=0.75
        ),
    ),
    test_cfg=dict(tracker=dict(type='QueryTracker'), clip_length=3, clip_stride=1),
)
train_dataloader['dataset']['ytvis'].update(load_masks=True)
custom_hooks = []
