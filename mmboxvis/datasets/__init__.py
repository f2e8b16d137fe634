"""Data sets, their transforms and samplers."""

from .box_video import BoxVideo
from .bvisd import BVISD
from .clip_sampling import sample_clip_frames
from .coco_clip import CocoClips
from .ovis import OVIS
from .samplers import MixedSampler, OrientationBatchSampler
from .toyvis import ToyVIS, generate_toyvis
from .transforms import (
    ClipRandomCrop,
    ClipRandomFlip,
    ClipResizeShortEdge,
    ClipRotate,
    ImageToClip,
    LoadClipAnnotations,
    LoadClipFrames,
    PackClipInputs,
)
from .video_frames import FrameError, VideoFrames
from .video_json import AnnotationError
from .ytvis import YouTubeVIS

__all__ = [
    'BVISD',
    'OVIS',
    'AnnotationError',
    'BoxVideo',
    'ClipRandomCrop',
    'ClipRandomFlip',
    'ClipResizeShortEdge',
    'ClipRotate',
    'CocoClips',
    'FrameError',
    'ImageToClip',
    'LoadClipAnnotations',
    'LoadClipFrames',
    'MixedSampler',
    'OrientationBatchSampler',
    'PackClipInputs',
    'ToyVIS',
    'VideoFrames',
    'YouTubeVIS',
    'generate_toyvis',
    'sample_clip_frames',
]
