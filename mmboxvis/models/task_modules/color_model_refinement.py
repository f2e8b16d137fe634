"""Pseudo masks that know the colours of their object and of what is around it."""

from __future__ import annotations

import torch
from torch import Tensor

from mmboxvis.models.losses.functional import inside_frame
from mmboxvis.registry import TASK_UTILS

from .refinement import Cells, require_positive

# all colours of sRGB
_LOWEST, _HIGHEST = (0.0, -87.0, -108.0), (100.0, 99.0, 95.0)
# what a colour that was never seen counts for, as a share of all cells
_UNSEEN = 1e-6


@TASK_UTILS.register_module()
class ColorModelRefinement:
    """Weighs soft masks by how much commoner a colour is in the object than around it.

    For each object one histogram of CIE Lab colours is taken of the mask and one of what is
    around it, over all frames of the clip, and the logits move by the logarithm of their ratio;
    a few rounds, each with the masks of the one before. It is the idea of GrabCut (Rother et al.,
    SIGGRAPH 2004; for box supervision Khoreva et al., *Simple Does It*, CVPR 2017), with soft
    masks and without its graph cut (beyond the paper).

    What neighbours cannot tell, histograms can: the dark blobs of a textured object are found in
    it and not around it. Where object and surroundings share their colours the ratio is 1 and the
    teacher's mask stands. Borders stay rough, for cells are judged one by one; an
    :class:`AffinityRefinement` after it draws them to the colours.

    Args:
        num_rounds: how often histograms are taken.
        weight: of the logarithm of the ratio.
        bin_size: of the histograms, in Lab; a colour counts for the 27 bins around it.
        margin: what is around an object, on each side of its box, in lengths of that side.
        max_log_ratio: the logarithm of the ratio is cut to this range, on both sides of 0.
        stride: pixels of the frame a cell, in each direction.

    Raises:
        ValueError: if one of them is out of range.
    """

    def __init__(
        self,
        num_rounds: int = 3,
        weight: float = 3.0,
        bin_size: float = 5.0,
        margin: float = 0.5,
        max_log_ratio: float = 3.0,
        stride: int = 2,
    ) -> None:
        require_positive(
            self,
            num_rounds=num_rounds,
            weight=weight,
            bin_size=bin_size,
            margin=margin,
            max_log_ratio=max_log_ratio,
            stride=stride,
        )
        self.num_rounds = num_rounds
        self.weight = weight
        self.bin_size = bin_size
        self.margin = margin
        self.max_log_ratio = max_log_ratio
        self.stride = stride
        self.num_bins = [
            int((high - low) // bin_size) + 1 for low, high in zip(_LOWEST, _HIGHEST, strict=True)
        ]

    @torch.no_grad()
    def __call__(self, mask_logits: Tensor, lab: Tensor, box_masks: Tensor) -> Tensor:
        """Refines masks; runs in float32.

        With ``(h', w') = ceil((H, W) / stride)``, about eight tensors of ``N * T * h' * w'``
        floats and nine of ``N`` histograms (of 33 thousand bins each) are held at a time.

        Args:
            mask_logits: (N, T, h, w).
            lab: (T, 3, H, W), CIE Lab colours of the frames.
            box_masks: (N, T, H, W), 0 or 1.

        Returns:
            (N, T, h', w') in [0, 1], 0 outside of the box.
        """
        with torch.autocast(mask_logits.device.type, enabled=False):
            cells = Cells.of(mask_logits, lab, box_masks, self.stride)
            bins = self._bins(cells.colors)
            around = enlarge_boxes(cells.boxes, self.margin) * inside_frame(cells.colors)
            masks = cells.logits.sigmoid() * cells.boxes
            for _ in range(self.num_rounds):
                seen = torch.stack([masks, around * (1 - masks)])
                inside, outside = self._densities(seen, bins).add(_UNSEEN).log().unbind()
                evidence = (inside - outside).clamp(-self.max_log_ratio, self.max_log_ratio)
                # less than a cell, of the object or around it, tells nothing
                evidence = evidence * (seen.flatten(2).sum(2) >= 1).all(0)[:, None]
                moved = evidence.index_select(1, bins).view_as(masks)
                masks = (cells.logits + self.weight * moved).sigmoid() * cells.boxes
            return masks

    def _bins(self, colors: Tensor) -> Tensor:
        """The bin of each cell, (T * h' * w') int64."""
        index = torch.zeros_like(colors[:, 0], dtype=torch.long)
        for channel, low, size in zip(colors.unbind(1), _LOWEST, self.num_bins, strict=True):
            place = ((channel - low) / self.bin_size).long().clamp(0, size - 1)
            index = index * size + place
        return index.flatten()

    def _densities(self, seen: Tensor, bins: Tensor) -> Tensor:
        """Smoothed histograms (2, N, bins) that sum to 1, of (2, N, T, h', w') weights."""
        weights = seen.flatten(2).flatten(0, 1)
        counts = weights.new_zeros(len(weights), torch.Size(self.num_bins).numel())
        counts.scatter_add_(1, bins.expand_as(weights), weights)
        smooth = counts.unflatten(1, self.num_bins)
        for dim in (1, 2, 3):
            smooth = _mean_of_three(smooth, dim)
        smooth = smooth.flatten(1)
        density = smooth / smooth.sum(1, keepdim=True).clamp(min=1)
        return density.unflatten(0, seen.shape[:2])


def _mean_of_three(values: Tensor, dim: int) -> Tensor:
    """With the neighbours along an axis, 0 beyond its ends; much faster than 3-D pooling."""
    length = values.shape[dim]
    total = values.clone()
    total.narrow(dim, 1, length - 1).add_(values.narrow(dim, 0, length - 1))
    total.narrow(dim, 0, length - 1).add_(values.narrow(dim, 1, length - 1))
    return total.div_(3)


def enlarge_boxes(boxes: Tensor, margin: float) -> Tensor:
    """Lets boxes grow on each side by a share of their length.

    Args:
        boxes: (..., h, w), 1 in a rectangle and 0 elsewhere; all 0 = absent.
        margin: the share.

    Returns:
        The same shape.
    """
    rows, columns = (_enlarge_spans(boxes.amax(dim), margin) for dim in (-1, -2))
    return rows[..., :, None] * columns[..., None, :]


def _enlarge_spans(inside: Tensor, margin: float) -> Tensor:
    """Of (..., D), 1 in a span and 0 elsewhere."""
    length = inside.shape[-1]
    places = torch.arange(length, device=inside.device).expand_as(inside)
    first = places.where(inside > 0, length).amin(-1, keepdim=True)
    last = places.where(inside > 0, -1).amax(-1, keepdim=True)
    reach = margin * (last - first + 1)
    # absent: the first comes behind the last
    return ((places >= first - reach) & (places <= last + reach) & (last >= first)).to(inside)
