"""Layers that differ from mmdet's."""

from .deformable_attention import FusedDeformableAttention, sample_and_sum
from .efficientnet_lite import EfficientNetLite0
from .pixel_decoder import FrameFeaturesPixelDecoder
from .positional_encoding import SinePositionalEncoding3D
from .query_decoder import QueryDecoder

__all__ = [
    'EfficientNetLite0',
    'FrameFeaturesPixelDecoder',
    'FusedDeformableAttention',
    'QueryDecoder',
    'SinePositionalEncoding3D',
    'sample_and_sum',
]
