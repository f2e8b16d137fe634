"""Pairwise costs of matching the queries of a clip to its instances.

Shapes: Q queries, N instances, K classes, T frames, (h, w) the prediction grid, D points of all
frames together. Every pairwise sum is a matrix product, so that no (Q, N, ...) tensor larger than
the result exists. All functions expect float32: run them outside autocast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.models.losses.functional import mask_projections


def query_quality(mask_logits: Tensor) -> Tensor:
    """Mean probability inside the binarised mask of each query (released program).

    ``sum(p * [p > 0.5]) / (sum([p > 0.5]) + 1e-6)`` over frames and pixels: how certain a
    prediction is of its own foreground. Not in the paper.

    Args:
        mask_logits: (Q, T, h, w).

    Returns:
        (Q,), 0 for an empty mask, else in (0.5, 1].
    """
    inside = F.threshold(mask_logits.sigmoid().flatten(1), 0.5, 0.0)
    total = inside.sum(1)
    # counted as floats: exact up to 2 ** 24 pixels, and booleans would be widened to be summed
    return total / (inside.sign_().sum(1) + 1e-6)


def classification_cost(
    cls_logits: Tensor, labels: Tensor, quality: Tensor | None = None
) -> Tensor:
    """Negative probability of each instance's class.

    Args:
        cls_logits: (Q, K+1), the last column is *no object* and takes part in the softmax.
        labels: (N,) int64 in [0, K).
        quality: (Q,) factors for the probabilities, see :func:`query_quality`.

    Returns:
        (Q, N) in [-1, 0].
    """
    probs = cls_logits.softmax(-1)[:, labels]
    return -probs if quality is None else -probs * quality[:, None]


def _pairwise_projection_dice(pred: Tensor, target: Tensor, floor: float) -> Tensor:
    """Dice distance with squared denominator of (Q, D) and (N, D), pairwise (Q, N)."""
    shared = pred @ target.T
    total = pred.square().sum(1)[:, None] + target.square().sum(1)[None]
    return 1 - 2 * shared / total.clamp(min=floor)


def projection_cost(
    mask_logits: Tensor, box_projections: tuple[Tensor, Tensor], floor: float = 1e-3
) -> Tensor:
    """Projection distance of every query to every box track (paper section 3.1).

    The dice of a pair is taken over all frames of the clip together, once for each axis.

    Args:
        mask_logits: (Q, T, h, w).
        box_projections: the box masks on the same grid as :func:`mask_projections` gives them,
            (N, T, w) and (N, T, h).
        floor: least denominator of a dice.

    Returns:
        (Q, N) in [0, 2].
    """
    # the sigmoid is monotone: that of the maximal logit is the maximal probability
    pred = [logits.sigmoid().flatten(1) for logits in mask_projections(mask_logits)]
    columns, rows = (masks.flatten(1) for masks in box_projections)
    return _pairwise_projection_dice(pred[0], columns, floor) + _pairwise_projection_dice(
        pred[1], rows, floor
    )


def point_bce_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of every query to every instance over the same points.

    Args:
        logits: (Q, D).
        targets: (N, D) in [0, 1], soft or hard.

    Returns:
        (Q, N).
    """
    # -t log(p) - (1 - t) log(1 - p) = softplus(x) - t x for p = sigmoid(x)
    return (F.softplus(logits).sum(1)[:, None] - logits @ targets.T) / logits.shape[1]


def point_dice_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice distance, smoothed by 1, of every query to every instance over the same points.

    Args:
        logits: (Q, D).
        targets: (N, D) in [0, 1], soft or hard.

    Returns:
        (Q, N) in [0, 1).
    """
    probs = logits.sigmoid()
    shared = probs @ targets.T
    total = probs.sum(1)[:, None] + targets.sum(1)[None]
    return 1 - (2 * shared + 1) / (total + 1)


def resize_box_masks(box_masks: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Brings box masks to the prediction grid and makes them hard again.

    Args:
        box_masks: (N, T, H, W), 0 or 1, N at least 1.
        size: (h, w).

    Returns:
        (N, T, h, w) float32, 1 where the bilinearly resized mask exceeds 0.5.
    """
    resized = F.interpolate(box_masks.float(), tuple(size), mode='bilinear', align_corners=False)
    return (resized > 0.5).float()
