"""Matching costs pair by pair, point by point."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_quality(mask_logits: Tensor) -> float:
    """Mean probability of the foreground of one query, (T, h, w)."""
    total, count = 0.0, 0
    for logit in mask_logits.flatten().tolist():
        prob = 1 / (1 + math.exp(-logit))
        if prob > 0.5:
            total += prob
            count += 1
    return total / (count + 1e-6)


def class_cost(cls_logits: Tensor, label: int, quality: float = 1.0) -> float:
    """Class cost of one query, (K+1,)."""
    exps = [math.exp(logit) for logit in cls_logits.tolist()]
    return -exps[label] / sum(exps) * quality


def projections(masks: Tensor) -> tuple[list[float], list[float]]:
    """Column and row maxima of (T, h, w), frame by frame."""
    columns: list[float] = []
    rows: list[float] = []
    for frame in masks:
        columns += [max(frame[:, x].tolist()) for x in range(frame.shape[1])]
        rows += [max(frame[y].tolist()) for y in range(frame.shape[0])]
    return columns, rows


def dice_distance(pred: list[float], target: list[float], floor: float) -> float:
    """Dice distance with squared denominator."""
    shared = sum(p * q for p, q in zip(pred, target, strict=True))
    total = sum(p * p for p in pred) + sum(q * q for q in target)
    return 1 - 2 * shared / max(total, floor)


def projection_cost(mask_logits: Tensor, box_masks: Tensor, floor: float = 1e-3) -> float:
    """Projection cost of one query, (T, h, w), and one box track on the same grid."""
    pairs = zip(projections(mask_logits.sigmoid()), projections(box_masks), strict=True)
    return sum(dice_distance(pred, target, floor) for pred, target in pairs)


def resize_box_masks(box_masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes (N, T, H, W) and binarises it, one map at a time."""
    return torch.stack(
        [
            torch.stack(
                [
                    F.interpolate(frame[None, None], size, mode='bilinear')[0, 0] > 0.5
                    for frame in masks
                ]
            )
            for masks in box_masks
        ]
    ).float()


def read_point(image: Tensor, x: float, y: float) -> Tensor:
    """Bilinear value of (h, w) at a point in [0, 1], zero outside. Differentiable."""
    height, width = image.shape
    column, row = x * width - 0.5, y * height - 0.5
    left, top = math.floor(column), math.floor(row)
    value = image.new_zeros(())
    for i, j in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= i < height and 0 <= j < width:
            value = value + (1 - abs(row - i)) * (1 - abs(column - j)) * image[i, j]
    return value


def read_points(masks: Tensor, points: Tensor) -> Tensor:
    """(T, h, w) at (P, 2) -> (T * P,)."""
    return torch.stack([read_point(frame, *xy) for frame in masks for xy in points.tolist()])


def point_cost(
    mask_logits: Tensor, target: Tensor, points: Tensor, mask_weight: float, dice_weight: float
) -> float:
    """BCE and dice of one query, (T, h, w), and one mask track, (T, H, W)."""
    logits = read_points(mask_logits, points)
    values = read_points(target, points)
    bce = F.binary_cross_entropy_with_logits(logits, values).item()
    probs = logits.sigmoid()
    shared, total = 0.0, 0.0
    for p, q in zip(probs.tolist(), values.tolist(), strict=True):
        shared += p * q
        total += p + q
    return mask_weight * bce + dice_weight * (1 - (2 * shared + 1) / (total + 1))


def box_supervised_costs(
    cls_logits: Tensor,
    mask_logits: Tensor,
    labels: Tensor,
    box_masks: Tensor,
    pseudo_masks: Tensor | None = None,
    scores: Tensor | None = None,
    threshold: float = 0.0,
    points: Tensor | None = None,
) -> Tensor:
    """(Q, N) costs of one layer with the default weights."""
    num_queries, num_gts = len(cls_logits), len(labels)
    boxes = resize_box_masks(box_masks, tuple(mask_logits.shape[-2:]))
    costs = torch.zeros(num_queries, num_gts)
    for q, n in itertools.product(range(num_queries), range(num_gts)):
        quality = mask_quality(mask_logits[q])
        costs[q, n] = 2 * class_cost(cls_logits[q], int(labels[n]), quality)
        costs[q, n] += 5 * projection_cost(mask_logits[q], boxes[n])
        if pseudo_masks is None or scores is None or points is None:
            continue
        small = int(boxes[n].sum()) / boxes[n].numel() <= 0.05
        if scores[n] >= min(threshold, 0.8) and not small:
            costs[q, n] += point_cost(mask_logits[q], pseudo_masks[n], points, 2.5, 2.5)
    return costs


def mask_costs(
    cls_logits: Tensor, mask_logits: Tensor, labels: Tensor, masks: Tensor, points: Tensor
) -> Tensor:
    """(Q, N) costs of one layer of the pixel-supervised matcher."""
    costs = torch.zeros(len(cls_logits), len(labels))
    for q, n in itertools.product(range(len(cls_logits)), range(len(labels))):
        costs[q, n] = 2 * class_cost(cls_logits[q], int(labels[n]))
        costs[q, n] += point_cost(mask_logits[q], masks[n], points, 5, 5)
    return costs


def cheapest_assignment(costs: Tensor) -> float:
    """Least total cost of (Q, N) over all one-to-one assignments."""
    table = costs if len(costs) >= costs.shape[1] else costs.T
    longer, shorter = table.shape
    return min(
        sum(float(table[i, j]) for j, i in enumerate(chosen))
        for chosen in itertools.permutations(range(longer), shorter)
    )
