"""Spatial-temporal pairwise affinity loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from mmboxvis.models.precision import at_least_float32
from mmboxvis.registry import MODELS
from mmboxvis.structures.affinity_pairs import AffinityPairs

from .functional import (
    Offset,
    grid_size,
    neighbor_offsets,
    resize_to_nodes,
    working_size,
)
from .pair_selection import (
    Affinity,
    NodesInBoxes,
    PairList,
    alike_pairs,
    collect_pairs,
    follow_centers,
    point_samples,
    spatial_pairs,
)
from .pairwise import pairwise_loss
from .patch_correlation import PatchCorrelation


@MODELS.register_module()
class STPALoss(nn.Module):
    """Spatial-temporal pairwise affinity loss (paper Sec. 3.2, Eq. 3).

    Two points that look alike should carry the same label. A point is paired with neighbours in
    its own frame and, following the box centre of the instance, in the next one. Pairs are built
    once for a clip from colours, features and boxes; the loss of every decoder layer reads them:
    it is the mean of ``-log P`` over all kept pairs, where ``P = M_i M_j + (1 - M_i)(1 - M_j)`` is
    the probability that both points carry the same label (paper Sec. 3.1).

    Args:
        loss_weight: weight of the loss.
        num_neighbors: 2 or 4 (spatial), 5, 7 or 9 (2 + 3, 2 + 5, 4 + 5 temporal).
        dilation: distance of neighbours in working pixels.
        stride: distance of the grid nodes in working pixels.
        patch_size: side of the compared feature patches in working pixels, odd.
        color_thr: tau_lab.
        corr_thr: tau_corr.
        use_patch_corr: whether patches of features are compared beside colours; ``None``: only
            if there are temporal neighbours.
        use_center_shift: whether temporal neighbours follow the box centre; ``None``: they do.
        temporal_in_box: whether ``'both'`` points of a temporal pair must be in the box, as in
            the released program, or ``'any'`` of them, as in the paper.
        wrap_last: whether the last frame is paired with the first, as in the released program.
        max_side: inputs with a longer side are compared at half their size.
        anchor_outside: takes points outside the box for background whatever is predicted there.
            What lies in the box and looks like the surroundings is then drawn to the background,
            while otherwise a pair over the edge of the box is content with two points that are
            wrong (beyond the paper).

    Example:
        >>> loss = STPALoss()
        >>> pairs = loss.build_pairs(lab, features, boxes, box_masks)
        >>> losses = [loss(mask_logits, pairs) for mask_logits in layers]
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        num_neighbors: int = 7,
        dilation: int = 4,
        stride: int = 2,
        patch_size: int = 3,
        color_thr: float = 0.3,
        corr_thr: float = 0.9,
        use_patch_corr: bool | None = None,
        use_center_shift: bool | None = None,
        *,
        temporal_in_box: Literal['both', 'any'] = 'both',
        wrap_last: bool = True,
        max_side: int = 480,
        anchor_outside: bool = False,
    ) -> None:
        super().__init__()
        if patch_size < 1 or patch_size % 2 == 0:
            raise ValueError(f'patch_size must be odd and positive, got {patch_size}')
        if temporal_in_box not in ('both', 'any'):
            raise ValueError(f"temporal_in_box must be 'both' or 'any', got {temporal_in_box!r}")
        if stride < 1 or dilation < 1:
            raise ValueError(f'stride and dilation must be positive, got {stride}, {dilation}')
        self.loss_weight = loss_weight
        self.num_neighbors = num_neighbors
        self.offsets: tuple[Offset, ...] = neighbor_offsets(
            num_neighbors, max(dilation // stride, 1)
        )
        temporal = any(dt for dt, _, _ in self.offsets)
        self.stride = stride
        self.patch_size = patch_size
        self.color_thr = color_thr
        self.corr_thr = corr_thr
        self.use_patch_corr = temporal if use_patch_corr is None else use_patch_corr
        self.use_center_shift = temporal if use_center_shift is None else use_center_shift
        self.temporal_in_box = temporal_in_box
        self.wrap_last = wrap_last
        self.max_side = max_side
        self.anchor_outside = anchor_outside

    @torch.no_grad()
    def build_pairs(
        self, lab: Tensor, features: Tensor | None, boxes: Tensor, box_masks: Tensor
    ) -> AffinityPairs:
        """Finds the pairs of a clip that are alike; nothing gets a gradient.

        Args:
            lab: (T, 3, H, W), CIE Lab colours of the padded frames.
            features: (T, C, h, w), the student's stride-4 features; ``None`` where only colours
                are compared.
            boxes: (N, T, 4) xyxy in 0-1, all zero = absent.
            box_masks: (N, T, H, W), the filled boxes.

        Raises:
            ValueError: if shapes do not fit, or features are needed and missing.
        """
        self._check(lab, features, boxes, box_masks)
        height, width = int(lab.shape[-2]), int(lab.shape[-1])
        with torch.autocast(lab.device.type, enabled=False):
            size = working_size((height, width), self.max_side)
            inside = resize_to_nodes(at_least_float32(box_masks), size, self.stride) > 0.5
            nodes = NodesInBoxes.create(inside)
            affinity = self._affinity(at_least_float32(lab), features, size)
            pairs = self._pair(nodes, affinity, at_least_float32(boxes))
            shape = (*box_masks.shape[:2], *grid_size(size, self.stride))
            # mask logits are at stride 4; others are served too, with some work in every loss
            logits_size = (max(height // 4, 1), max(width // 4, 1))
            kept = collect_pairs(pairs, self.offsets, shape, size, self.stride, logits_size)
            if not self.anchor_outside:
                return kept
            return replace(kept, outside=~nodes.contain(kept.nodes))

    def forward(self, mask_logits: Tensor, pairs: AffinityPairs) -> Tensor:
        """Mean of ``-log P`` over all kept pairs of the clip (paper Eq. 3).

        Args:
            mask_logits: (N, T, h, w), logits of the queries matched to the N instances.
            pairs: what :meth:`build_pairs` returned for the clip.

        Returns:
            A scalar, times ``loss_weight``; 0, with a gradient of 0, if no pair is kept.

        Raises:
            ValueError: if the pairs belong to another number of instances or frames.
        """
        if tuple(mask_logits.shape[:2]) != pairs.shape[:2]:
            raise ValueError(
                f'mask_logits are of (N, T) = {tuple(mask_logits.shape[:2])}, the pairs of '
                f'{pairs.shape[:2]}; use pairs.select() for a part of the instances'
            )
        logits_size = (int(mask_logits.shape[2]), int(mask_logits.shape[3]))
        samples = pairs.samples
        if samples.size != logits_size:
            samples = point_samples(
                pairs.nodes, pairs.shape, pairs.working_size, pairs.stride, logits_size
            )
        with torch.autocast(mask_logits.device.type, enabled=False):
            return self.loss_weight * pairwise_loss(
                at_least_float32(mask_logits),
                samples,
                pairs.first,
                pairs.second,
                pairs.degrees,
                pairs.outside,
            )

    def extra_repr(self) -> str:
        """Names the options in ``print(model)``."""
        return (
            f'loss_weight={self.loss_weight}, num_neighbors={self.num_neighbors}, '
            f'use_patch_corr={self.use_patch_corr}, use_center_shift={self.use_center_shift}'
        )

    def _affinity(self, lab: Tensor, features: Tensor | None, size: tuple[int, int]) -> Affinity:
        colors = resize_to_nodes(lab, size, self.stride).transpose(0, 1).flatten(1)
        if not self.use_patch_corr:
            return Affinity(colors, self.color_thr)
        assert features is not None  # checked before
        correlation = PatchCorrelation(features, size, self.stride, self.patch_size)
        threshold = self.color_thr + Affinity.corr_weight * self.corr_thr
        return Affinity(colors, threshold, correlation)

    def _pair(self, nodes: NodesInBoxes, affinity: Affinity, boxes: Tensor) -> PairList:
        spatial = [offset for offset in self.offsets if not offset[0]]
        temporal = [offset for offset in self.offsets if offset[0]]
        lists = [spatial_pairs(nodes, affinity, spatial)]
        # a single frame would be paired with itself
        if temporal and boxes.shape[1] > 1:
            motion = follow_centers(
                boxes,
                nodes.grid,
                wrap_last=self.wrap_last,
                use_center_shift=self.use_center_shift,
            )
            ahead = alike_pairs(
                nodes, affinity, motion, temporal, both_inside=self.temporal_in_box == 'both'
            )
            lists.append(ahead._replace(neighbors=ahead.neighbors + len(spatial)))
        return PairList.join(lists)

    def _check(
        self, lab: Tensor, features: Tensor | None, boxes: Tensor, box_masks: Tensor
    ) -> None:
        frames, size = lab.shape[0], tuple(lab.shape[-2:])
        if lab.dim() != 4 or lab.shape[1] != 3:
            raise ValueError(f'lab must be (T, 3, H, W), got {tuple(lab.shape)}')
        if boxes.dim() != 3 or boxes.shape[1:] != (frames, 4):
            raise ValueError(f'boxes must be (N, {frames}, 4), got {tuple(boxes.shape)}')
        if tuple(box_masks.shape) != (len(boxes), frames, *size):
            raise ValueError(
                f'box_masks must be {(len(boxes), frames, *size)} to fit lab and boxes, got '
                f'{tuple(box_masks.shape)}'
            )
        if self.use_patch_corr and features is None:
            raise ValueError(
                'features are missing: give (T, C, h, w), or set use_patch_corr=False to compare '
                'colours only'
            )
        if features is not None and (features.dim() != 4 or len(features) != frames):
            raise ValueError(f'features must be ({frames}, C, h, w), got {tuple(features.shape)}')
