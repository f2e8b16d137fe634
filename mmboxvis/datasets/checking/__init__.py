"""Checks annotation files and their frames, and repairs what can be repaired safely."""

from .check import check_dataset
from .frames import check_frames
from .masks import MaskTotals
from .problems import CheckReport, Level, Problem
from .repair import fix_dataset

__all__ = [
    'CheckReport',
    'Level',
    'MaskTotals',
    'Problem',
    'check_dataset',
    'check_frames',
    'fix_dataset',
]
