"""Trackers: streams of clip predictions in, streams of tracked frames out."""

from .base import BaseTracker, TrackFrame
from .overlap_tracker import OverlapTracker
from .query_tracker import QueryTracker, match_queries
from .scoring import (
    Candidates,
    WindowScores,
    mask_quality,
    mask_quality_counts,
    presence_factor,
    select_candidates,
    select_classes,
)

__all__ = [
    'BaseTracker',
    'Candidates',
    'OverlapTracker',
    'QueryTracker',
    'TrackFrame',
    'WindowScores',
    'mask_quality',
    'mask_quality_counts',
    'match_queries',
    'presence_factor',
    'select_candidates',
    'select_classes',
]
