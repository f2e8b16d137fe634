"""From decoded frames to what the network takes."""

from .clip_preprocessor import ClipDataPreprocessor
from .color_jitter import ColorJitter

__all__ = ['ClipDataPreprocessor', 'ColorJitter']
