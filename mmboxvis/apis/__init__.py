"""What a program that is not a training run calls."""

from .boxes_to_masks import BoxesToMasks
from .official import convert_official, load_official, load_weights, to_official
from .sources import FrameRange, FrameSource, open_source
from .video_run import FrameResult
from .video_segmenter import VideoSegmenter

__all__ = [
    'BoxesToMasks',
    'FrameRange',
    'FrameResult',
    'FrameSource',
    'VideoSegmenter',
    'convert_official',
    'load_official',
    'load_weights',
    'open_source',
    'to_official',
]
