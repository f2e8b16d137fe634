"""Swin-L: 8 clips a step, 32000 steps, rate divided by 10 at 28000."""

max_iters = 32000

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

_backbone = dict(lr_mult=0.1, decay_mult=1.0)
_backbone_no_decay = dict(lr_mult=0.1, decay_mult=0.0)
_no_decay = dict(lr_mult=1.0, decay_mult=0.0)

optim_wrapper = dict(
    type='FiniteOptimWrapper',
    constructor='StudentOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    # a matched key wins over norm_decay_mult, so the norms of the backbone are listed
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            'backbone': _backbone,
            'backbone.patch_embed.norm': _backbone_no_decay,
            **{f'backbone.norm{stage}': _backbone_no_decay for stage in range(4)},
            **{
                f'backbone.stages.{stage}.blocks.{block}.norm': _backbone_no_decay
                for stage, depth in enumerate((2, 2, 18, 2))
                for block in range(depth)
            },
            **{
                f'backbone.stages.{stage}.downsample.norm': _backbone_no_decay for stage in range(3)
            },
            'relative_position_bias_table': _backbone_no_decay,
            'query_embed': _no_decay,
            'query_feat': _no_decay,
            'level_embed': _no_decay,
        },
    ),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, milestones=[28000], gamma=0.1, end=max_iters)
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
