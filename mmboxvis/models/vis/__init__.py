"""Models: BoxVIS, its pixel-supervised twin, and what both are made of."""

from .base import BaseVIS
from .boxvis import BoxVIS
from .clip_network import ClipNetwork
from .mask2former_vis import Mask2FormerVIS
from .video_predictor import VideoPredictor

__all__ = ['BaseVIS', 'BoxVIS', 'ClipNetwork', 'Mask2FormerVIS', 'VideoPredictor']
