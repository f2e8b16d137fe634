"""Scores, submissions and their checks."""

from .functional import ErrorAnalysis, MaskQuality, VISEvaluation, evaluate_vis, mean_best_iou
from .submission import check_submission, match_categories, to_results, write_submission
from .tables import format_errors, format_scores
from .vis_metric import VISMetric

__all__ = [
    'ErrorAnalysis',
    'MaskQuality',
    'VISEvaluation',
    'VISMetric',
    'check_submission',
    'evaluate_vis',
    'format_errors',
    'format_scores',
    'match_categories',
    'mean_best_iou',
    'to_results',
    'write_submission',
]
