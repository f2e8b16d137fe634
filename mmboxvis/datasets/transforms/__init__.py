"""Clip-consistent transforms, one a class.

All of them take and return a *clip dict*, and never change what they were given. T frames of
(H, W) pixels, N instances:

===================  ==============================================================================
``img_paths``        T paths, from the data set
``frame_ids``        T frame indices in the video, from the data set
``video_id``, ``video_name``, ``video_length``, ``frame_size`` (H, W) or ``None``: from the data set
``instances``        :class:`~mmboxvis.datasets.video_json.VideoInstances` of the whole video
``box_source``, ``load_masks``: what the data set was asked for
``imgs``             T arrays (H, W, 3) uint8 BGR, all of one size; :class:`LoadClipFrames`
``ori_shape``        (H, W) of the files; :class:`LoadClipFrames`
``reduction``        1, or what JPEG files were divided by in decoding; :class:`LoadClipFrames`
``gt_ids``           (N,) int64 annotation ids; :class:`LoadClipAnnotations`, as all below
``gt_labels``        (N,) int64
``gt_bboxes``        (N, T, 4) float32 xyxy in pixels, zero where absent
``gt_valid``         (N, T) bool
``gt_masks``         (N, T, H, W) uint8, 0 or 1; only where masks were asked for
===================  ==============================================================================

Random numbers are drawn once a clip, from numpy's global generator, which mmengine seeds in each
worker. An instance that a transform removes from every frame leaves all arrays at once, so its
id cannot drift.
"""

from .crop import ClipRandomCrop
from .flip import ClipRandomFlip
from .formatting import PackClipInputs
from .image_to_clip import ImageToClip
from .loading import LoadClipAnnotations, LoadClipFrames
from .resize import ClipResizeShortEdge
from .rotate import ClipRotate

__all__ = [
    'ClipRandomCrop',
    'ClipRandomFlip',
    'ClipResizeShortEdge',
    'ClipRotate',
    'ImageToClip',
    'LoadClipAnnotations',
    'LoadClipFrames',
    'PackClipInputs',
]
