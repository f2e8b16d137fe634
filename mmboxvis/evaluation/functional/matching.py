"""Greedy matching of predicted to annotated tracks within a video and category.

Shapes: D predictions in descending order of score, G annotations, A groups (all sizes, small,
..., heavily occluded), L IoU thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Matches:
    """Outcome of one video and category.

    Attributes:
        scores: (D,) float64, descending.
        hit: (A, L, D) bool, matched to an annotation, be it one that counts or not.
        truth: (A, L, D) int64, index of that annotation, -1 where there is none.
        ignored: (A, L, D) bool, neither right nor wrong in that group.
        num_truth: (A,) int64, annotations that count in each group.
    """

    scores: np.ndarray
    hit: np.ndarray
    truth: np.ndarray
    ignored: np.ndarray
    num_truth: np.ndarray


def match_tracks(
    scores: np.ndarray,
    ious: np.ndarray,
    thresholds: np.ndarray,
    *,
    truth_ignored: np.ndarray,
    truth_crowd: np.ndarray,
    outside: np.ndarray,
) -> Matches:
    """Matches each prediction, best score first, to the best annotation that is still free.

    An annotation that counts goes before one that is ignored, whatever their IoU; among equal
    ones the last is taken. A crowd can be matched any number of times. A prediction is ignored
    if its annotation is, or if it has none and lies outside the group's range of sizes. All
    groups and thresholds are matched at once; only predictions that reach the lowest threshold
    with some annotation are walked through.

    Args:
        scores: (D,) descending.
        ious: (D, G).
        thresholds: (L,) ascending.
        truth_ignored: (A, G) bool, does not count in the group.
        truth_crowd: (G,) bool.
        outside: (A, D) bool, prediction outside the group's range of sizes.
    """
    num_groups, num_truth = truth_ignored.shape
    hit = np.zeros((num_groups, len(thresholds), len(scores)), dtype=bool)
    truth = np.full(hit.shape, -1, dtype=np.int64)
    hit_ignored = np.zeros_like(hit)
    # an IoU of 1 that rounding made smaller still meets a threshold of 1
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None]
    free = np.ones((num_groups, len(thresholds), num_truth), dtype=bool)
    counts = ~truth_ignored[:, None, :]
    groups, levels = np.ix_(range(num_groups), range(len(thresholds)))

    for det in np.flatnonzero((ious >= limits[0]).any(1)):
        fits = free & (ious[det] >= limits)
        first_choice = fits & counts
        pool = np.where(first_choice.any(-1, keepdims=True), first_choice, fits)
        rank = np.where(pool, ious[det], -1.0)
        best = num_truth - 1 - rank[..., ::-1].argmax(-1)
        found = fits.any(-1)
        hit[..., det] = found
        truth[..., det] = np.where(found, best, -1)
        hit_ignored[..., det] = found & truth_ignored[groups, best]
        free[groups, levels, best] &= ~found | truth_crowd[best]
    ignored = np.where(hit, hit_ignored, outside[:, None, :])
    return Matches(scores, hit, truth, ignored, (~truth_ignored).sum(1))
