"""Spatial pairs, and temporal pairs found by matching patches: an alternative to STPA."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.registry import MODELS

from .functional import inside_frame
from .pair_selection import Affinity, NodesInBoxes, PairList, spatial_pairs
from .stpa_loss import STPALoss


class _Matches(NamedTuple):
    """The K likest places of the next frame, for every node of every frame.

    Attributes:
        places: (T, K, rows * columns) int64, ``y * columns + x``, the likest first.
        similarity: (T, K, rows * columns), -1 where there is no such place: it would lie
            outside the frame.
    """

    places: Tensor
    similarity: Tensor


def match_patches(lab: Tensor, radius: int, num_matches: int, patch_size: int = 3) -> _Matches:
    """Finds for each node the places of the next frame whose patches look most like its own.

    Similarity is ``exp(-d / 2)`` with d the mean distance in CIE Lab of the two patches' nodes;
    what lies outside the frame, on the grid's padding or beyond it, does not count in the mean and
    is no place. The last frame is followed by the first.

    The largest tensors have ``3 * (2 * radius + 1)² * T * rows * columns`` elements.

    Args:
        lab: (T, 3, rows, columns), CIE Lab at the nodes.
        radius: how far to look, in nodes, in both directions.
        num_matches: K, at most ``(2 * radius + 1)²``.
        patch_size: side of the patches in nodes, odd.
    """
    rows, columns = lab.shape[-2:]
    side = 2 * radius + 1

    def around(maps: Tensor) -> Tensor:
        """(T, C, side², rows, columns): the maps at every offset, 0 outside."""
        unfolded = F.unfold(maps, side, padding=radius)
        return unfolded.view(len(maps), maps.shape[1], side * side, rows, columns)

    # all padding is alike: it would make patches at the edge match better than they do
    inside = inside_frame(lab)
    exists = around(inside[None, None]).squeeze(1) * inside
    distance = (around(lab.roll(-1, 0)) - lab[:, :, None]).square().sum(1).sqrt() * exists

    def window_mean(maps: Tensor) -> Tensor:
        return F.avg_pool2d(maps, patch_size, 1, patch_size // 2)

    mean = window_mean(distance) / window_mean(exists).clamp(min=1e-6)
    similarity = (-mean / 2).exp().where(exists > 0, -1).flatten(2)
    best = similarity.topk(num_matches, dim=1)
    y = best.indices.div(side, rounding_mode='floor') - radius
    x = best.indices % side - radius
    places = torch.arange(rows * columns, device=lab.device) + y * columns + x
    return _Matches(places.where(best.values >= 0, 0), best.values)


@MODELS.register_module()
class TemporalMatchLoss(STPALoss):
    """Pairwise loss whose temporal pairs are the likest patches near by (beyond the paper).

    STPA looks at fixed neighbours around the place that the box centre predicts; here every point
    is paired with its K likest patches within a radius in the next frame, after the temporal
    K-nearest-patch loss of MaskFreeVIS (Ke et al., CVPR 2023, section 3.2). No features and no box
    centres are used: ``build_pairs`` takes ``None`` for features. Spatial pairs and the loss are
    those of :class:`STPALoss`.

    Args:
        loss_weight: weight of the loss.
        num_neighbors: spatial neighbours, 2 or 4.
        num_matches: K.
        radius: how far to look, in nodes of the grid.
        match_thr: least similarity of a match, in [0, 1].
        kwargs: ``dilation``, ``stride``, ``color_thr``, ``temporal_in_box``, ``wrap_last`` and
            ``max_side`` of :class:`STPALoss`.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        num_neighbors: int = 2,
        *,
        num_matches: int = 3,
        radius: int = 5,
        match_thr: float = 0.3,
        **kwargs: int | float | bool | str,
    ) -> None:
        if num_neighbors not in (2, 4):
            raise ValueError(f'num_neighbors must be 2 or 4, got {num_neighbors}')
        if radius < 0 or not 1 <= num_matches <= (2 * radius + 1) ** 2:
            raise ValueError(
                f'num_matches must lie in [1, {(2 * radius + 1) ** 2}] for a radius of {radius}, '
                f'got {num_matches}'
            )
        super().__init__(loss_weight, num_neighbors, **kwargs)  # type: ignore[arg-type]
        self.spatial_offsets = self.offsets
        self.offsets = (*self.offsets, *[(1, 0, 0)] * num_matches)
        self.num_matches = num_matches
        self.radius = radius
        self.match_thr = match_thr

    def _pair(self, nodes: NodesInBoxes, affinity: Affinity, boxes: Tensor) -> PairList:
        """Spatial pairs, and as further neighbours the first to the K-th match."""
        lists = [spatial_pairs(nodes, affinity, self.spatial_offsets)]
        if boxes.shape[1] > 1 and len(boxes):
            colors = affinity.lab.unflatten(1, (boxes.shape[1], *nodes.grid)).transpose(0, 1)
            ahead = self._temporal_pairs(nodes, colors, boxes)
            lists.append(ahead._replace(neighbors=ahead.neighbors + len(self.spatial_offsets)))
        return PairList.join(lists)

    def _temporal_pairs(self, nodes: NodesInBoxes, colors: Tensor, boxes: Tensor) -> PairList:
        """Pairs of nodes with their matches, both or one of them in the box of the instance."""
        num_frames, _, rows, columns = colors.shape
        matches = match_patches(colors, self.radius, self.num_matches, self.patch_size)
        alike = (matches.similarity >= self.match_thr) & (matches.similarity >= 0)
        present = (boxes[..., 2:] > boxes[..., :2]).all(-1)
        followed = present & present.roll(-1, 1)
        if not self.wrap_last:
            followed = followed & (torch.arange(num_frames, device=boxes.device) < num_frames - 1)

        inside = nodes.inside.flatten(2)
        first = inside[:, :, None]
        ahead = inside.roll(-1, 1)[:, :, None].expand(-1, -1, self.num_matches, -1)
        second = ahead.gather(3, matches.places.expand(len(boxes), -1, -1, -1))
        in_box = first & second if self.temporal_in_box == 'both' else first | second
        keep = in_box & alike & followed[:, :, None, None]
        instance, frame, which, place = keep.nonzero().unbind(1)
        row = instance * num_frames + frame
        next_row = instance * num_frames + (frame + 1) % num_frames
        volume = rows * columns
        return PairList(
            row * volume + place,
            next_row * volume + matches.places[frame, which, place],
            which,
        )
