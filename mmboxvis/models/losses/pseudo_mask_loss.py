"""Supervision by masks, pseudo or annotated, at sampled points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmboxvis.registry import MODELS

from .point_sampling import sample_points, sample_uncertain_points


@MODELS.register_module()
class PseudoMaskLoss(nn.Module):
    """Binary cross-entropy and dice against masks, at points (paper section 3.1, L_pse-mask).

    Each frame of each instance is a row of its own with its own points, half of which lie where
    the prediction is least certain. A row gives its mean cross-entropy and its dice distance
    ``1 - (2 sum(pq) + 1) / (sum(p) + sum(q) + 1)``; both are summed over the rows, frames included,
    and divided by ``avg_factor``.

    The defaults are those of the released program for pseudo masks. For annotated masks, as
    Mask2Former-VIS is trained, use weights of 5 and an importance ratio of 0.75.

    Args:
        mask_weight: weight of the cross-entropy.
        dice_weight: weight of the dice distance.
        num_points: P, points a row.
        oversample_ratio: candidates for each point, at least 1.
        importance_sample_ratio: share of points chosen by uncertainty, in [0, 1].

    Raises:
        ValueError: if one of the last three is out of range.
    """

    def __init__(
        self,
        *,
        mask_weight: float = 2.5,
        dice_weight: float = 2.5,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.5,
    ) -> None:
        super().__init__()
        if num_points < 1:
            raise ValueError(f'num_points must be at least 1, not {num_points}')
        if oversample_ratio < 1:
            raise ValueError(f'oversample_ratio must be at least 1, not {oversample_ratio}')
        if not 0 <= importance_sample_ratio <= 1:
            raise ValueError(
                f'importance_sample_ratio must lie in [0, 1], not {importance_sample_ratio}'
            )
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio

    def forward(
        self,
        mask_logits: Tensor,
        target_masks: Tensor,
        avg_factor: Tensor | float,
        *,
        points: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Both losses, in float32 also under autocast.

        Args:
            mask_logits: (n, T, h, w).
            target_masks: (n, T, H, W) in [0, 1], soft or hard, at any resolution.
            avg_factor: positive divisor, the mean number of instances a process.
            points: (n * T, P, 2) xy in [0, 1], frames of an instance next to each other; sampled
                if not given.
            weights: (n,) of the instances, in [0, 1]; 1 if not given.

        Returns:
            Weighted cross-entropy and weighted dice distance, two scalars. With n = 0 both are 0
            and still part of the graph.

        Raises:
            ValueError: if the first two dimensions of predictions and targets differ.
        """
        if mask_logits.shape[:2] != target_masks.shape[:2]:
            raise ValueError(
                f'predictions of (instances, frames) {tuple(mask_logits.shape[:2])} cannot be '
                f'compared with masks of {tuple(target_masks.shape[:2])}'
            )
        with torch.autocast(mask_logits.device.type, enabled=False):
            rows = mask_logits.float().flatten(0, 1)[:, None]
            if len(rows) == 0:
                return rows.sum(), rows.sum()
            if points is None:
                points = sample_uncertain_points(
                    rows.detach(),
                    self.num_points,
                    self.oversample_ratio,
                    self.importance_sample_ratio,
                )
            logits = sample_points(rows, points)
            with torch.no_grad():
                targets = sample_points(target_masks.float().flatten(0, 1)[:, None], points)
            bce = F.binary_cross_entropy_with_logits(logits, targets, reduction='none').mean(1)
            probs = logits.sigmoid()
            shared = (probs * targets).sum(1)
            dice = 1 - (2 * shared + 1) / (probs.sum(1) + targets.sum(1) + 1)
            if weights is not None:
                of_rows = weights.float().repeat_interleave(mask_logits.shape[1])
                bce, dice = bce * of_rows, dice * of_rows
            return (
                self.mask_weight * bce.sum() / avg_factor,
                self.dice_weight * dice.sum() / avg_factor,
            )
