"""Pseudo masks that follow the colours of the frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.models.losses.functional import color_similarity
from mmboxvis.registry import TASK_UTILS


@TASK_UTILS.register_module()
class AffinityRefinement:
    """Averages soft masks with their neighbours of like colour, a few times (beyond the paper).

    In each step a value becomes the mean of the teacher's own value there and the present values
    of its eight neighbours, weighted by 1 and by their colour similarity ``exp(-d / 2)`` in CIE
    Lab: a step of mean field on the graph that the pairwise loss is built on. It works at the
    size of the masks as predicted.

    Args:
        num_steps: how often.
        dilation: distance of the neighbours in cells of the masks.

    Raises:
        ValueError: if one of them is not positive.
    """

    def __init__(self, num_steps: int = 5, dilation: int = 1) -> None:
        if num_steps < 1 or dilation < 1:
            raise ValueError(
                f'num_steps and dilation must be positive, not {num_steps} and {dilation}'
            )
        self.num_steps = num_steps
        self.dilation = dilation

    @torch.no_grad()
    def __call__(self, masks: Tensor, lab: Tensor) -> Tensor:
        """Refines masks; runs in float32.

        The largest tensor has ``9 * N * T * h * w`` floats.

        Args:
            masks: (N, T, h, w) in [0, 1].
            lab: (T, 3, H, W), CIE Lab colours of the frames.

        Returns:
            (N, T, h, w) in [0, 1].
        """
        if not len(masks):
            return masks
        height, width = masks.shape[-2:]
        with torch.autocast(masks.device.type, enabled=False):
            colors = F.interpolate(lab.float(), (height, width), mode='area')
            center = colors[:, :, None]
            weights = color_similarity(self._around(colors), center, dim=1)
            # neighbours outside the frame do not count
            weights = weights * self._around(torch.ones_like(colors[:1, :1])).squeeze(1)
            own = masks.float()
            refined = own
            for _ in range(self.num_steps):
                pulled = (self._around(refined) * weights).sum(2)
                refined = (own + pulled) / (1 + weights.sum(1))
        return refined

    def _around(self, maps: Tensor) -> Tensor:
        """(A, B, h, w) to (A, B, 8, h, w): the neighbours of each cell, 0 outside."""
        unfolded = F.unfold(maps, 3, padding=self.dilation, dilation=self.dilation)
        cells = unfolded.view(*maps.shape[:2], 9, *maps.shape[2:])
        return torch.cat([cells[:, :, :4], cells[:, :, 5:]], 2)
