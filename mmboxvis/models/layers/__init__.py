"""Layers that differ from mmdet's."""

from .deformable_attention import FusedDeformableAttention, sample_and_sum
from .pixel_decoder import FrameFeaturesPixelDecoder
from .positional_encoding import SinePositionalEncoding3D
from .query_decoder import QueryDecoder

__all__ = [
    'FrameFeaturesPixelDecoder',
    'FusedDeformableAttention',
    'QueryDecoder',
    'SinePositionalEncoding3D',
    'sample_and_sum',
]
