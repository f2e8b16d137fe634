"""ToyVIS: generated videos, drawn into data/toyvis when they are not there yet."""

data_root = 'data/toyvis'
generate = dict(num_train=200, num_val=30, seed=0)

train_pipeline = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(type='ClipResizeShortEdge', short_edges=(96,), max_long=144, backend='cv2'),
    dict(type='ClipRandomFlip', prob=0.5),
    dict(type='PackClipInputs'),
]
test_pipeline = [dict(type='Resize', scale=(192, 128), keep_ratio=True)]

toyvis_train = dict(
    type='ToyVIS',
    data_root=data_root,
    split='train',
    ann_file='boxes.json',
    generate=generate,
    clip=dict(num_frames=3, frame_range=5),
    pipeline=train_pipeline,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=toyvis_train,
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='ToyVIS',
        data_root=data_root,
        split='val',
        ann_file='instances.json',
        generate=generate,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='VISMetric', ann_file=f'{data_root}/val/instances.json')
test_evaluator = val_evaluator
