"""What travels between the rooms: frozen dataclasses, nothing of ours imported."""

from .affinity_pairs import AffinityPairs
from .clip_predictions import ClipPredictions
from .clip_targets import ClipTargets, boxes_to_masks
from .decoder_inputs import DecoderInputs
from .frame_features import FrameFeatures
from .pseudo_masks import PseudoMasks
from .video_prediction import VideoPrediction

__all__ = [
    'AffinityPairs',
    'ClipPredictions',
    'ClipTargets',
    'DecoderInputs',
    'FrameFeatures',
    'PseudoMasks',
    'VideoPrediction',
    'boxes_to_masks',
]
