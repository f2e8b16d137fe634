"""davis_mini: 9 real videos with boxes to train from and masks to score; see docs/en/datasets.md.

The folder is looked for at $MMBOXVIS_REAL_DATA, by default beside the project.
"""

import os

data_root = os.environ.get('MMBOXVIS_REAL_DATA', '../shared/data') + '/'
del os  # a config is copied, a module cannot be
classes = (
    'person', 'bird', 'camel', 'car', 'cow', 'dog', 'bicycle', 'horse', 'goat', 'backpack',
)  # fmt: skip

train_pipeline = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(type='ClipResizeShortEdge', short_edges=(144, 160, 176, 192), max_long=352, backend='cv2'),
    dict(type='ClipRandomFlip', prob=0.5),
    dict(type='PackClipInputs'),
]
test_pipeline = [dict(type='Resize', scale=(352, 192), keep_ratio=True)]

davis_train = dict(
    type='BoxVideo',
    data_root=data_root + 'davis_mini',
    ann_file='boxes.json',
    img_root='JPEGImages',
    classes=classes,
    clip=dict(num_frames=3, frame_range=5),
    pipeline=train_pipeline,
)
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=davis_train,
)
# the annotator's case: boxes of these videos in, masks of the same videos out
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='BoxVideo',
        data_root=data_root + 'davis_mini',
        ann_file='instances.json',
        img_root='JPEGImages',
        classes=classes,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='VISMetric', ann_file=data_root + 'davis_mini/instances.json')
test_evaluator = val_evaluator
