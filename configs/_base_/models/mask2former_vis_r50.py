"""The pixel-supervised twin of boxvis_r50.py: the same network, no teacher."""

from mmengine.config import read_base

with read_base():
    from .boxvis_r50 import data_preprocessor, network

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
