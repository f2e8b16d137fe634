"""Layers that differ from mmdet's."""

from .pixel_decoder import FrameFeaturesPixelDecoder
from .positional_encoding import SinePositionalEncoding3D

__all__ = ['FrameFeaturesPixelDecoder', 'SinePositionalEncoding3D']
