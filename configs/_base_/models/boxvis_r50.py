"""BoxVIS with a ResNet-50: 44.0 M parameters in the student."""

num_classes = 40
num_queries = 100

_attention = dict(embed_dims=256, num_heads=8, dropout=0.0, batch_first=True)
_ffn = dict(embed_dims=256, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='ReLU', inplace=True))

network = dict(
    type='ClipNetwork',
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
    ),
    track_head=dict(
        type='BoxVISHead',
        in_channels=[256, 512, 1024, 2048],
        num_classes=num_classes,
        num_queries=num_queries,
        feat_channels=256,
        out_channels=256,
        pixel_decoder=dict(
            type='FrameFeaturesPixelDecoder',
            encoder=dict(
                num_layers=6,
                layer_cfg=dict(
                    self_attn_cfg=dict(**_attention, num_levels=3, num_points=4, im2col_step=64),
                    ffn_cfg=dict(**_ffn, feedforward_channels=1024),
                ),
            ),
            positional_encoding=dict(num_feats=128, normalize=True),
        ),
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=9,
            layer_cfg=dict(
                self_attn_cfg=_attention,
                cross_attn_cfg=_attention,
                ffn_cfg=dict(**_ffn, feedforward_channels=2048),
            ),
        ),
        positional_encoding=dict(
            type='SinePositionalEncoding3D',
            num_feats=128,
            normalize=True,
            paired_frequencies=False,
        ),
    ),
)

data_preprocessor = dict(
    type='ClipDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)

model = dict(
    type='BoxVIS',
    data_preprocessor=data_preprocessor,
    network=network,
    pseudo_masks=dict(type='PseudoMaskGenerator'),
    # 'rising' is the released program, 'falling' the paper
    confidence=dict(type='ConfidenceSchedule', mode='rising'),
    criterion=dict(
        type='BoxSupervisedCriterion',
        cls_weight=2.0,
        no_object_weight=0.1,
        assigner=dict(
            type='BoxSupervisedAssigner',
            cls_weight=2.0,
            projection_weight=5.0,
            mask_weight=2.5,
            dice_weight=2.5,
        ),
        loss_proj=dict(type='ProjectionLoss', loss_weight=5.0),
        loss_pair=dict(type='STPALoss', loss_weight=1.0, num_neighbors=7),
        loss_pseudo=dict(
            type='PseudoMaskLoss', mask_weight=2.5, dice_weight=2.5, importance_sample_ratio=0.5
        ),
    ),
    test_cfg=dict(tracker=dict(type='QueryTracker'), clip_length=3, clip_stride=1),
)
