"""BoxVIS from boxes of your own, on a pretrained small backbone; see docs/en/own_boxes.md.

Set the variables below, or change the settings in a copy of this file that stands beside it. All
else follows from them while the config is loaded, so ``--cfg-options data_root=...`` is too late.
"""

import os

from mmengine.config import read_base

with read_base():
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_effnet_lite0 import *
    from .._base_.schedules.tiny import *

# a variable that is set to nothing counts as not set
data_root = os.environ.get('MMBOXVIS_OWN_DATA') or 'data/mine'
ann_file = os.environ.get('MMBOXVIS_OWN_BOXES') or 'boxes.json'  # relative to data_root
img_root = os.environ.get('MMBOXVIS_OWN_IMAGES') or 'JPEGImages'  # relative to data_root
# as the file calls them, with commas between; by default all are one class
classes = (os.environ.get('MMBOXVIS_OWN_CLASSES') or 'object').split(',')
classes = tuple(name.strip() for name in classes if name.strip())
max_iters = int(os.environ.get('MMBOXVIS_OWN_STEPS') or 300)

# the same annotations with masks, if there are any, to be scored with tools/test.py; with boxes
# alone the boxes around the masks are scored
truth_file = os.environ.get('MMBOXVIS_OWN_TRUTH') or ann_file
truth_path = os.path.join(data_root, truth_file)
del os  # a config is copied, a module cannot be
category_map = 'object' if classes == ('object',) else {}

model['network']['track_head']['num_classes'] = len(classes)
# beyond the paper, and what gains most on few real videos: docs/en/learning.md
model['pseudo_masks']['refine'] = [
    dict(type='ColorModelRefinement'),
    dict(type='AffinityRefinement', theta=5.0),
]
model['criterion']['loss_pseudo'].update(
    mask_weight=5.0, dice_weight=5.0, importance_sample_ratio=0.75
)
custom_hooks = [dict(type='EMATeacherHook', momentum=0.005)]
optim_wrapper['paramwise_cfg']['custom_keys']['backbone'] = dict(lr_mult=0.1)

train_cfg.update(max_iters=max_iters)
param_scheduler[0].update(end=min(50, max_iters // 2))
param_scheduler[1].update(begin=min(50, max_iters // 2), end=max_iters)
default_hooks['checkpoint'].update(
    interval=min(200, max(1, max_iters // 3)), max_keep_ckpts=2, save_best=None
)
default_hooks['logger'].update(interval=min(50, max_iters))
auto_scale_lr.update(base_batch_size=2)

train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BoxVideo',
        data_root=data_root,
        ann_file=ann_file,
        img_root=img_root,
        classes=classes,
        category_map=category_map,
        clip=dict(num_frames=3, frame_range=5),
        pipeline=[
            dict(type='LoadClipFrames'),
            dict(type='LoadClipAnnotations'),
            dict(
                type='ClipResizeShortEdge',
                short_edges=(144, 160, 176, 192),
                max_long=352,
                backend='cv2',
            ),
            dict(type='ClipRandomFlip', prob=0.5),
            dict(type='PackClipInputs'),
        ],
    ),
)
# there are no masks to validate with while it trains
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='BoxVideo',
        data_root=data_root,
        ann_file=truth_file,
        img_root=img_root,
        classes=classes,
        category_map=category_map,
        test_mode=True,
        pipeline=[dict(type='Resize', scale=(352, 192), keep_ratio=True)],
    ),
)
test_evaluator = dict(type='VISMetric', ann_file=truth_path, class_agnostic=True)
