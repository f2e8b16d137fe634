"""A network small enough to train from scratch on two CPU cores.

ResNet-18 with group norm: there is no pretrained backbone whose batch statistics one could freeze,
and a teacher averages parameters, not statistics.
"""

num_classes = 4
num_queries = 10

_attention = dict(embed_dims=64, num_heads=4, dropout=0.0, batch_first=True)
_ffn = dict(embed_dims=64, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='ReLU', inplace=True))

network = dict(
    type='ClipNetwork',
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        stem_channels=32,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        norm_eval=False,
        style='pytorch',
    ),
    track_head=dict(
        type='BoxVISHead',
        in_channels=[32, 64, 128, 256],
        num_classes=num_classes,
        num_queries=num_queries,
        feat_channels=64,
        out_channels=64,
        pixel_decoder=dict(
            type='FrameFeaturesPixelDecoder',
            norm_cfg=dict(type='GN', num_groups=8),
            encoder=dict(
                num_layers=2,
                layer_cfg=dict(
                    self_attn_cfg=dict(**_attention, num_levels=3, num_points=4, im2col_step=64),
                    ffn_cfg=dict(**_ffn, feedforward_channels=128),
                ),
            ),
            positional_encoding=dict(num_feats=32, normalize=True),
        ),
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=_attention,
                cross_attn_cfg=_attention,
                ffn_cfg=dict(**_ffn, feedforward_channels=128),
            ),
        ),
        positional_encoding=dict(
            type='SinePositionalEncoding3D',
            num_feats=32,
            normalize=True,
            paired_frequencies=False,
        ),
    ),
)

data_preprocessor = dict(type='ClipDataPreprocessor', bgr_to_rgb=True, pad_size_divisor=32)

model = dict(
    type='BoxVIS',
    data_preprocessor=data_preprocessor,
    network=network,
    pseudo_masks=dict(type='PseudoMaskGenerator'),
    confidence=dict(type='ConfidenceSchedule', mode='rising'),
    criterion=dict(
        type='BoxSupervisedCriterion',
        cls_weight=2.0,
        no_object_weight=0.1,
        assigner=dict(type='BoxSupervisedAssigner', num_points=1024),
        loss_proj=dict(type='ProjectionLoss', loss_weight=5.0),
        loss_pair=dict(type='STPALoss', loss_weight=1.0, num_neighbors=7),
        loss_pseudo=dict(
            type='PseudoMaskLoss',
            mask_weight=2.5,
            dice_weight=2.5,
            num_points=1024,
            importance_sample_ratio=0.5,
        ),
    ),
    test_cfg=dict(tracker=dict(type='QueryTracker'), clip_length=3, clip_stride=1),
)
