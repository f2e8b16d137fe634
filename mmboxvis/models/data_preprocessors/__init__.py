"""From decoded frames to what the network takes."""

from .clip_preprocessor import ClipDataPreprocessor

__all__ = ['ClipDataPreprocessor']
