"""Matching with annotated masks."""

from __future__ import annotations

import torch
from torch import Tensor

from mmboxvis.models.losses.point_sampling import sample_shared_points
from mmboxvis.registry import TASK_UTILS
from mmboxvis.structures import ClipTargets, PseudoMasks

from .clip_assigner import ClipAssigner, LayerCost
from .match_costs import classification_cost


@TASK_UTILS.register_module()
class MaskAssigner(ClipAssigner):
    """Matches queries to mask tracks, as Mask2Former-VIS does: class, BCE and dice at points.

    Takes the same arguments as :class:`BoxSupervisedAssigner`, reads ``targets.masks``, and has
    no use for pseudo masks and their threshold.

    Args:
        cls_weight: weight of the class cost.
        mask_weight: weight of the binary cross-entropy.
        dice_weight: weight of the dice distance.
        num_points: points to compare masks at.
    """

    def __init__(
        self,
        *,
        cls_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        num_points: int = 12544,
    ) -> None:
        super().__init__(
            cls_weight=cls_weight,
            mask_weight=mask_weight,
            dice_weight=dice_weight,
            num_points=num_points,
        )

    def _layer_cost(
        self,
        targets: ClipTargets,
        size: torch.Size,
        pseudo: PseudoMasks | None,
        threshold: float,
        points: Tensor | None,
    ) -> LayerCost:
        if targets.masks is None:
            raise ValueError(
                'MaskAssigner needs the masks of the instances, but the targets have none: load '
                'the annotations with_mask=True, or use BoxSupervisedAssigner'
            )
        where = self._draw_points(targets.masks.device) if points is None else points
        values = sample_shared_points(targets.masks.float(), where).flatten(1)

        def cost(cls_logits: Tensor, mask_logits: Tensor) -> Tensor:
            by_class = classification_cost(cls_logits, targets.labels)
            return self.cls_weight * by_class + self._point_cost(mask_logits, where, values)

        return cost
