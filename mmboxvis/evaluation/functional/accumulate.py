"""Precision and recall of one category, pooled over videos.

Shapes: A groups, L IoU thresholds, P = 101 points of recall, M limits on the number of
predictions a video, D predictions of all videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .matching import Matches

RECALL_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class CategoryCurves:
    """Scores of one category; -1 in groups where it has no annotation.

    Attributes:
        precision: (A, L, P), interpolated at :data:`RECALL_POINTS`.
        recall: (A, L, M), highest recall with that many predictions a video.
        num_truth: (A,) int64, annotations that count.
    """

    precision: np.ndarray
    recall: np.ndarray
    num_truth: np.ndarray

    @classmethod
    def nothing(cls, num_groups: int, num_levels: int, num_limits: int) -> CategoryCurves:
        """Curves of a category without annotations, -1 throughout."""
        return cls(
            np.full((num_groups, num_levels, len(RECALL_POINTS)), -1.0),
            np.full((num_groups, num_levels, num_limits), -1.0),
            np.zeros(num_groups, dtype=np.int64),
        )


def interpolated_precision(right: np.ndarray, wrong: np.ndarray, num_truth: int) -> np.ndarray:
    """Precision at the P points of recall.

    Args:
        right: (D,) bool in descending order of score, predictions that hit an annotation.
        wrong: (D,) bool, predictions that hit none; one that is neither does not count.
        num_truth: annotations to find, at least one.

    Returns:
        (P,) float64: the best precision at that recall or a higher one.
    """
    true_positives = np.cumsum(right, dtype=np.float64)
    counted = np.cumsum(right | wrong, dtype=np.float64)
    precision = true_positives / np.maximum(counted, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    where = np.searchsorted(true_positives / num_truth, RECALL_POINTS, side='left')
    return np.append(envelope, 0.0)[where]


def accumulate(matches: Sequence[Matches], max_dets: Sequence[int]) -> CategoryCurves:
    """Pools the matches of one category over the videos.

    Args:
        matches: one entry for each video with a prediction or an annotation, at least one.
        max_dets: M limits on the number of predictions a video, ascending; precision uses the
            last.
    """
    num_truth = np.sum([match.num_truth for match in matches], axis=0)
    num_groups, num_levels = matches[0].hit.shape[:2]
    curves = CategoryCurves.nothing(num_groups, num_levels, len(max_dets))
    precision, recall = curves.precision, curves.recall

    limit = max_dets[-1]
    order = np.argsort(-np.concatenate([m.scores[:limit] for m in matches]), kind='stable')
    hit = np.concatenate([m.hit[..., :limit] for m in matches], axis=-1)
    ignored = np.concatenate([m.ignored[..., :limit] for m in matches], axis=-1)
    rank = np.concatenate([np.arange(len(m.scores[:limit])) for m in matches])
    right, wrong = hit & ~ignored, ~hit & ~ignored
    for group in np.flatnonzero(num_truth):
        for column, max_det in enumerate(max_dets):
            found = right[group][:, rank < max_det].sum(-1)
            recall[group, :, column] = found / num_truth[group]
        for level in range(num_levels):
            precision[group, level] = interpolated_precision(
                right[group, level, order], wrong[group, level, order], int(num_truth[group])
            )
    return CategoryCurves(precision, recall, num_truth)
