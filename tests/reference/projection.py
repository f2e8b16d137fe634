"""Projection loss, one instance at a time, everything resized and kept."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def projection_loss(mask_logits: Tensor, box_masks: Tensor, max_side: int = 480) -> Tensor:
    """Sum over instances of the dice distances of both axes, not divided."""
    height, width = box_masks.shape[-2:]
    size = (height // 2, width // 2) if max(height, width) > max_side else (height, width)
    total = mask_logits.sum() * 0
    for logits, box_mask in zip(mask_logits, box_masks):
        probs = F.interpolate(logits[None], size, mode='bilinear', align_corners=False)[0].sigmoid()
        target = F.interpolate(box_mask[None], size, mode='bilinear', align_corners=False)[0]
        for axis in (1, 2):
            p = torch.cat([frame.max(axis - 1)[0] for frame in probs])
            q = torch.cat([frame.max(axis - 1)[0] for frame in target])
            total = total + 1 - 2 * (p * q).sum() / ((p**2).sum() + (q**2).sum()).clamp(min=1e-6)
    return total
