"""Augmentation of videos, and of images that become pseudo clips as released or as in the paper.

The data set configs take the released one; ``coco=dict(pipeline=paper_image_pipeline)`` changes it.
"""

num_frames = 3

video_pipeline = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(
        type='ClipResizeShortEdge',
        short_edges=(320, 352, 384, 416, 448, 480, 512),
        max_long=800,
        backend='smooth',
    ),
    dict(type='ClipRandomFlip', prob=0.5),
    dict(type='PackClipInputs'),
]

image_pipeline = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(type='ImageToClip', num_frames=num_frames),
    dict(
        type='RandomApply',
        prob=0.5,
        transforms=[
            dict(type='ClipResizeShortEdge', short_edges=(600, 700, 800), max_long=1333),
            dict(type='ClipRandomCrop'),
        ],
    ),
    dict(
        type='ClipResizeShortEdge',
        short_edges=(320, 352, 384, 416, 448, 480, 512),
        max_long=800,
        backend='smooth',
    ),
    dict(type='ClipRandomFlip', prob=0.5),
    dict(type='ClipRotate'),
    dict(type='PackClipInputs'),
]

# paper Sec. 3.3: always cropped, then rotated, then resized to 360p; flipped as released, as the
# paper leaves that open
paper_image_pipeline = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(type='ImageToClip', num_frames=num_frames),
    dict(type='ClipResizeShortEdge', short_edges=tuple(range(600, 801)), max_long=1333),
    dict(type='ClipRandomCrop', min_size=320, max_size=512),
    dict(type='ClipRotate'),
    dict(type='ClipResizeShortEdge', short_edges=360, max_long=800),
    dict(type='ClipRandomFlip', prob=0.5),
    dict(type='PackClipInputs'),
]

# short edge 360 for YouTube-VIS 2021, 480 for OVIS and BVISD; long edge at most 1333
test_pipeline_360 = [dict(type='Resize', scale=(1333, 360), keep_ratio=True, backend='pillow')]
test_pipeline_480 = [dict(type='Resize', scale=(1333, 480), keep_ratio=True, backend='pillow')]

clip = dict(num_frames=num_frames, frame_range=10)
video_sampler = dict(type='DefaultSampler', shuffle=False, round_up=False)
