"""Matching with boxes and, where they can be trusted, pseudo masks.

Shapes: L layers, Q queries, K classes, N instances, T frames, (h, w) the prediction grid, (H, W)
the padded input, P points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmboxvis.models.losses.functional import mask_projections
from mmboxvis.models.losses.point_sampling import sample_shared_points
from mmboxvis.registry import TASK_UTILS
from mmboxvis.structures import ClipTargets, PseudoMasks

from .clip_assigner import Assignment, ClipAssigner, LayerCost, _check_frames, hungarian
from .match_costs import classification_cost, projection_cost, query_quality, resize_box_masks


@TASK_UTILS.register_module()
class BoxSupervisedAssigner(ClipAssigner):
    """Matches queries to box tracks (paper section 3.1, *BoxVIS baseline*).

    A pair costs ``cls_weight * class + projection_weight * projection``, and where the instance
    has a trusted pseudo mask, ``+ mask_weight * BCE + dice_weight * dice`` against it at random
    points. A pseudo mask is trusted if its score reaches ``min(threshold, max_confidence)`` and
    the box covers more than ``small_area`` of the clip: the mask of a small object is too coarse
    to match by.

    The cap, the rule for small objects and the factor of mask quality on the class probability are
    in the released program only; ``max_confidence=1``, ``small_area=0`` and
    ``use_mask_quality=False`` switch them off.

    Args:
        cls_weight: weight of the class cost.
        projection_weight: weight of the projection cost.
        mask_weight: weight of the binary cross-entropy with the pseudo mask.
        dice_weight: weight of the dice distance to the pseudo mask.
        num_points: P, points to compare masks at.
        max_confidence: no higher score is asked of a pseudo mask than this.
        small_area: share of the clip's pixels, padding included, up to which a box is small.
        use_mask_quality: scales class probabilities by :func:`query_quality`.
    """

    def __init__(
        self,
        *,
        cls_weight: float = 2.0,
        projection_weight: float = 5.0,
        mask_weight: float = 2.5,
        dice_weight: float = 2.5,
        num_points: int = 12544,
        max_confidence: float = 0.8,
        small_area: float = 0.05,
        use_mask_quality: bool = True,
    ) -> None:
        super().__init__(
            cls_weight=cls_weight,
            mask_weight=mask_weight,
            dice_weight=dice_weight,
            num_points=num_points,
        )
        self.projection_weight = projection_weight
        self.max_confidence = max_confidence
        self.small_area = small_area
        self.use_mask_quality = use_mask_quality

    def assign_boxes(
        self, cls_logits: Tensor, mask_logits: Tensor, labels: Tensor, box_masks: Tensor
    ) -> list[Assignment]:
        """Matches by class and boxes alone, as a teacher is matched.

        Args:
            cls_logits: (L, Q, K+1).
            mask_logits: (L, Q, T, h, w).
            labels: (N,) int64.
            box_masks: (N, T, H, W), 0 or 1.

        Returns:
            As :meth:`assign`.

        Raises:
            ValueError: if predictions and boxes do not have the same number of frames.
        """
        _check_frames(mask_logits, box_masks)
        if len(labels) == 0:
            return hungarian(mask_logits.new_zeros((*mask_logits.shape[:2], 0)))
        with torch.no_grad(), torch.autocast(mask_logits.device.type, enabled=False):
            boxes = resize_box_masks(box_masks, mask_logits.shape[-2:])
            costs = self._run(self._box_cost(labels, boxes), cls_logits, mask_logits)
        return hungarian(costs)

    def _layer_cost(
        self,
        targets: ClipTargets,
        size: torch.Size,
        pseudo: PseudoMasks | None,
        threshold: float,
        points: Tensor | None,
    ) -> LayerCost:
        boxes = resize_box_masks(targets.box_masks, size)
        box_cost = self._box_cost(targets.labels, boxes)
        if pseudo is None:
            return box_cost
        trusted = self._trusted(pseudo, boxes, threshold).nonzero().squeeze(1)
        if not len(trusted):
            return box_cost
        where = self._draw_points(boxes.device) if points is None else points
        values = sample_shared_points(pseudo.masks[trusted].float(), where).flatten(1)

        def cost(cls_logits: Tensor, mask_logits: Tensor) -> Tensor:
            by_masks = self._point_cost(mask_logits, where, values)
            return box_cost(cls_logits, mask_logits).index_add_(1, trusted, by_masks)

        return cost

    def _box_cost(self, labels: Tensor, boxes: Tensor) -> LayerCost:
        """Class and projection terms for box masks (N, T, h, w) on the prediction grid."""
        projections = mask_projections(boxes)

        def cost(cls_logits: Tensor, mask_logits: Tensor) -> Tensor:
            quality = query_quality(mask_logits) if self.use_mask_quality else None
            by_class = classification_cost(cls_logits, labels, quality)
            by_boxes = projection_cost(mask_logits, projections)
            return self.cls_weight * by_class + self.projection_weight * by_boxes

        return cost

    def _trusted(self, pseudo: PseudoMasks, boxes: Tensor, threshold: float) -> Tensor:
        """(N,) bool: the instances whose pseudo masks take part in the matching."""
        area = boxes.flatten(1).sum(1) / boxes[0].numel()
        confident = pseudo.scores >= min(threshold, self.max_confidence)
        return confident & (pseudo.query_inds >= 0) & (area > self.small_area)
