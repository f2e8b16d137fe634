"""The mask loss point by point."""

from __future__ import annotations

import torch
from torch import Tensor

from .assigner import read_point


def mask_loss(
    mask_logits: Tensor, target_masks: Tensor, points: Tensor, avg_factor: float
) -> tuple[Tensor, Tensor]:
    """Unweighted cross-entropy and dice of (n, T, h, w) with (n, T, H, W) at (n * T, P, 2)."""
    loss_mask = loss_dice = torch.zeros(())
    row = 0
    for logits, targets in zip(mask_logits, target_masks, strict=True):
        for frame, target in zip(logits, targets, strict=True):
            entropy = shared = total = torch.zeros(())
            for x, y in points[row].tolist():
                prob = torch.sigmoid(read_point(frame, x, y))
                value = read_point(target, x, y)
                entropy = entropy - value * prob.log() - (1 - value) * (1 - prob).log()
                shared = shared + prob * value
                total = total + prob + value
            loss_mask = loss_mask + entropy / len(points[row])
            loss_dice = loss_dice + 1 - (2 * shared + 1) / (total + 1)
            row += 1
    return loss_mask / avg_factor, loss_dice / avg_factor
