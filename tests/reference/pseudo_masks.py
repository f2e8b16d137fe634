"""Pseudo masks one instance at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .assigner import box_supervised_costs, dice_distance, projections


def pseudo_masks(
    cls_logits: Tensor, mask_logits: Tensor, labels: Tensor, box_masks: Tensor
) -> tuple[list[int], list[float], Tensor]:
    """Queries, scores and masks of N instances; -1, 0 and an empty mask where unmatched."""
    costs = box_supervised_costs(cls_logits, mask_logits, labels, box_masks)
    query_of = {int(n): int(q) for q, n in zip(*linear_sum_assignment(costs.numpy()))}
    queries, scores, masks = [], [], []
    for n, box in enumerate(box_masks):
        q = query_of.get(n, -1)
        queries.append(q)
        if q < 0:
            scores.append(0.0)
            masks.append(torch.zeros_like(box))
            continue
        frames = [
            F.interpolate(frame[None, None], box.shape[-2:], mode='bilinear')[0, 0].sigmoid()
            for frame in mask_logits[q]
        ]
        soft = torch.stack(frames)
        similarity = [
            1 - dice_distance(pred, target, 1e-6)
            for pred, target in zip(projections(soft), projections(box), strict=True)
        ]
        prob = float(cls_logits[q].softmax(0)[labels[n]])
        scores.append(prob * sum(similarity) / 2)
        masks.append(soft * box)
    return queries, scores, torch.stack(masks)
