"""R50: 16 clips a step, 15000 steps, rate divided by 10 at 12000."""

max_iters = 15000

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='FiniteOptimWrapper',
    constructor='StudentOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    # a matched key wins over norm_decay_mult; the norms of the R50 backbone are frozen anyway
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            'backbone': dict(lr_mult=0.1, decay_mult=1.0),
            'query_embed': dict(lr_mult=1.0, decay_mult=0.0),
            'query_feat': dict(lr_mult=1.0, decay_mult=0.0),
            'level_embed': dict(lr_mult=1.0, decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    # the released recipe names a warm-up of 10 iterations with factor 1: none
    dict(type='MultiStepLR', by_epoch=False, milestones=[12000], gamma=0.1, end=max_iters)
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
