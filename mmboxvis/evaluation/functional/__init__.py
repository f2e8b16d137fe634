"""Scores of video instance segmentation in plain numpy and pycocotools."""

from .accumulate import CategoryCurves, accumulate
from .error_analysis import ERROR_KINDS, ErrorAnalysis, TrackError
from .layout import (
    GroundTruth,
    VideoInfo,
    load_json,
    read_ground_truth,
    read_results,
    read_videos,
    result_problems,
)
from .mask_quality import MaskQuality, mean_best_iou
from .matching import Matches, match_tracks
from .occlusion import OCCLUSION_LEVELS, OCCLUSION_RANGES, occlusion_score
from .rle import RunTotals, run_totals
from .track_iou import box_track_iou, track_iou
from .vis_eval import IOU_THRESHOLDS, ClassScores, VISEvaluation, evaluate_vis

__all__ = [
    'ERROR_KINDS',
    'IOU_THRESHOLDS',
    'OCCLUSION_LEVELS',
    'OCCLUSION_RANGES',
    'CategoryCurves',
    'ClassScores',
    'ErrorAnalysis',
    'GroundTruth',
    'MaskQuality',
    'Matches',
    'RunTotals',
    'TrackError',
    'VISEvaluation',
    'VideoInfo',
    'accumulate',
    'box_track_iou',
    'evaluate_vis',
    'load_json',
    'match_tracks',
    'mean_best_iou',
    'occlusion_score',
    'read_ground_truth',
    'read_results',
    'read_videos',
    'result_problems',
    'run_totals',
    'track_iou',
]
