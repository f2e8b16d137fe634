"""From a teacher's predictions to one soft mask for each annotated instance.

Shapes: Q queries, K classes, N instances, T frames, (h, w) the prediction grid, (H, W) the padded
input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.models.losses.functional import mask_projections, projection_dice
from mmboxvis.registry import TASK_UTILS
from mmboxvis.structures import PseudoMasks

from .box_supervised_assigner import BoxSupervisedAssigner
from .refinement import Refinement, refine_masks


@TASK_UTILS.register_module()
class PseudoMaskGenerator:
    """Matches the teacher to the boxes, scores the matched masks and cuts them to the boxes.

    The score of a pseudo mask is the teacher's probability of the annotated class times how well
    the mask projects on the box (paper section 3.1, *Pseudo mask supervision loss*).

    Args:
        assigner: a :class:`BoxSupervisedAssigner` or the config of one; the default one if not
            given. Only its class and projection terms are used, and ``use_mask_quality``.
        refine: config of a :class:`ColorModelRefinement` or an :class:`AffinityRefinement`, or
            several, each of which refines what the one before it gives; ``None`` takes the
            teacher's masks as they are.
    """

    def __init__(
        self,
        assigner: BoxSupervisedAssigner | dict[str, Any] | None = None,
        refine: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
    ) -> None:
        self.assigner: BoxSupervisedAssigner = (
            TASK_UTILS.build(assigner)
            if isinstance(assigner, dict)
            else assigner or BoxSupervisedAssigner()
        )
        steps = [refine] if isinstance(refine, dict) else refine or []
        self.refinements: list[Refinement] = [TASK_UTILS.build(step) for step in steps]

    @torch.no_grad()
    def __call__(
        self,
        cls_logits: Tensor,
        mask_logits: Tensor,
        labels: Tensor,
        box_masks: Tensor,
        lab: Tensor | None = None,
    ) -> PseudoMasks:
        """Makes the pseudo masks of one clip.

        Runs in float32. Only matched queries are brought to full size: the largest tensors have
        N * T * H * W floats, about six of them at a time.

        Args:
            cls_logits: (Q, K+1).
            mask_logits: (Q, T, h, w).
            labels: (N,) int64.
            box_masks: (N, T, H, W), 0 or 1.
            lab: (T, 3, H, W), CIE Lab colours, needed to refine.

        Returns:
            Masks ``box * sigmoid(logits)`` with their queries and scores. Where N > Q leaves an
            instance without a query, its query is -1, its score 0 and its mask empty.

        Raises:
            ValueError: if predictions and boxes do not have the same number of frames, or colours
                are needed and missing.
        """
        if self.refinements and lab is None:
            raise ValueError('refined pseudo masks need the colours of the frames: pass lab')
        query_inds, gt_inds = self.assigner.assign_boxes(
            cls_logits[None], mask_logits[None], labels, box_masks
        )[0]
        boxes = box_masks.float()
        queries = torch.full_like(labels, -1, dtype=torch.long)
        if len(gt_inds) == 0:
            return PseudoMasks(queries, boxes.new_zeros(len(labels)), torch.zeros_like(boxes))

        matched = boxes[gt_inds]
        with torch.autocast(mask_logits.device.type, enabled=False):
            probs = cls_logits.float().softmax(-1)[query_inds, labels[gt_inds]]
            masks = _enlarge(mask_logits[query_inds].float(), matched.shape[-2:]).sigmoid()
            scores = probs * projection_score(masks, matched)
            if self.refinements and lab is not None:
                refined = refine_masks(self.refinements, mask_logits[query_inds], lab, matched)
                # cells outside of the box are 0, so masks fade over the last pixel before its edge,
                # most of which is background: without that they are a little worse
                masks = _enlarge(refined, matched.shape[-2:])
        return PseudoMasks(
            queries.index_copy(0, gt_inds, query_inds),
            boxes.new_zeros(len(labels)).index_copy(0, gt_inds, scores),
            torch.zeros_like(boxes).index_copy(0, gt_inds, matched * masks),
        )


def _enlarge(masks: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(masks, tuple(size), mode='bilinear', align_corners=False)


def projection_score(masks: Tensor, box_masks: Tensor) -> Tensor:
    """How well masks project on boxes: the mean over both axes of the dice similarity.

    Args:
        masks: (N, T, H, W) probabilities.
        box_masks: (N, T, H, W), 0 or 1.

    Returns:
        (N,) in [0, 1].
    """
    distances = [
        projection_dice(pred.flatten(1), target.flatten(1))
        for pred, target in zip(mask_projections(masks), mask_projections(box_masks))
    ]
    return 1 - (distances[0] + distances[1]) / 2
