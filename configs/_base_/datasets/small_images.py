"""coco_mini as pseudo clips, of the size of davis_mini's; see docs/en/datasets.md."""

from mmengine.config import read_base

with read_base():
    from .davis_mini import classes, data_root

image_pipeline = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(type='ImageToClip', num_frames=3),
    dict(
        type='RandomApply',
        prob=0.5,
        transforms=[
            dict(type='ClipResizeShortEdge', short_edges=(300, 350, 400), max_long=666),
            dict(type='ClipRandomCrop', min_size=160, max_size=240),
        ],
    ),
    dict(type='ClipResizeShortEdge', short_edges=(144, 160, 176, 192), max_long=352),
    dict(type='ClipRandomFlip', prob=0.5),
    dict(type='ClipRotate'),
    dict(type='PackClipInputs'),
]

coco_train = dict(
    type='CocoClips',
    data_root=data_root + 'coco_mini',
    ann_file='instances.json',
    img_root='images',
    classes=classes,
    unknown_categories='drop',
    pipeline=image_pipeline,
)
