"""Pairwise affinity loss of the baseline."""

from __future__ import annotations

from torch import Tensor, nn

from mmboxvis.registry import MODELS
from mmboxvis.structures.affinity_pairs import AffinityPairs

from .stpa_loss import STPALoss


@MODELS.register_module()
class PairwiseAffinityLoss(nn.Module):
    """Neighbours of like colour in one frame should carry the same label (paper Eq. 1).

    The special case of :class:`STPALoss` with the right and the lower neighbour only and colours
    only. Both are called alike, so that a head takes either.

    Args:
        loss_weight: weight of the loss.
        num_neighbors: 2 or 4.
        dilation: distance of neighbours in working pixels.
        stride: distance of the grid nodes in working pixels.
        color_thr: tau.
        max_side: inputs with a longer side are compared at half their size.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        *,
        num_neighbors: int = 2,
        dilation: int = 4,
        stride: int = 2,
        color_thr: float = 0.3,
        max_side: int = 480,
    ) -> None:
        super().__init__()
        if num_neighbors not in (2, 4):
            raise ValueError(f'num_neighbors must be 2 or 4, got {num_neighbors}')
        self.loss_weight = loss_weight
        self._affinity_loss = STPALoss(
            loss_weight,
            num_neighbors=num_neighbors,
            dilation=dilation,
            stride=stride,
            color_thr=color_thr,
            max_side=max_side,
        )

    def build_pairs(
        self, lab: Tensor, features: Tensor | None, boxes: Tensor, box_masks: Tensor
    ) -> AffinityPairs:
        """Finds the pairs of a clip; see :meth:`STPALoss.build_pairs`, ``features`` are unused."""
        return self._affinity_loss.build_pairs(lab, None, boxes, box_masks)

    def forward(self, mask_logits: Tensor, pairs: AffinityPairs) -> Tensor:
        """Mean of ``-log P`` over all kept pairs of the clip; see :meth:`STPALoss.forward`."""
        return self._affinity_loss(mask_logits, pairs)
