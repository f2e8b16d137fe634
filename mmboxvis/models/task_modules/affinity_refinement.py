"""Pseudo masks that follow the colours of the frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.models.losses.functional import color_similarity, inside_frame
from mmboxvis.registry import TASK_UTILS

from .refinement import Cells, require_positive


@TASK_UTILS.register_module()
class AffinityRefinement:
    """Lets soft masks spread between neighbours of like colour (beyond the paper).

    In each step a value becomes the mean of the teacher's own value there, weighted by
    ``own_weight``, and the present values of its eight neighbours, weighted by their colour
    similarity ``exp(-d / theta)`` in CIE Lab. Outside of its box a mask is 0 all along. So
    background flows in from the box's edge and the object's inside flows out, both as far as the
    colours go; where all neighbours differ, as in a strong texture, the teacher's value stands.
    Nothing flows in from the padding of a batch, as nothing does from beyond a frame's edge.

    Masks are predicted at a quarter of the frame's size; borders are found at ``1 / stride`` of it.

    Where a background has the colour of the object, what flows in would flow on through it: a mask
    that would lose too much of its area in a frame stays as it is there.

    Args:
        num_steps: how often; a value travels ``num_steps * dilation`` cells.
        dilation: distance of the neighbours in cells.
        stride: pixels of the frame a cell, in each direction.
        theta: colour distance at which the similarity has fallen to 1/e; 2 as in the pairwise loss.
            Larger ones smooth textures, and cross faint borders.
        own_weight: of the teacher's value; a neighbour of equal colour has 1.
        min_share: of a mask's area above 0.5 in its box that has to be left, in [0, 1].

    Raises:
        ValueError: if one of them is out of range.
    """

    def __init__(
        self,
        num_steps: int = 40,
        dilation: int = 1,
        stride: int = 2,
        theta: float = 2.0,
        own_weight: float = 0.02,
        min_share: float = 0.5,
    ) -> None:
        require_positive(
            self,
            num_steps=num_steps,
            dilation=dilation,
            stride=stride,
            theta=theta,
            own_weight=own_weight,
        )
        if not 0 <= min_share <= 1:
            raise ValueError(f'min_share must lie in [0, 1], not {min_share}')
        self.num_steps = num_steps
        self.dilation = dilation
        self.stride = stride
        self.theta = theta
        self.own_weight = own_weight
        self.min_share = min_share

    @torch.no_grad()
    def __call__(self, mask_logits: Tensor, lab: Tensor, box_masks: Tensor) -> Tensor:
        """Refines masks; runs in float32.

        With ``(h', w') = ceil((H, W) / stride)``, about four tensors of ``N * T * h' * w'`` and
        one of ``8 * T * h' * w'`` floats are held at a time.

        Args:
            mask_logits: (N, T, h, w).
            lab: (T, 3, H, W), CIE Lab colours of the frames.
            box_masks: (N, T, H, W), 0 or 1.

        Returns:
            (N, T, h', w') in [0, 1].
        """
        with torch.autocast(mask_logits.device.type, enabled=False):
            logits, colors, boxes = Cells.of(mask_logits, lab, box_masks, self.stride)
            own = logits.sigmoid() * boxes
            weights = self._neighbor_weights(colors)
            total = self.own_weight + sum(weights)
            weights = [weight / total for weight in weights]
            constant = own * (self.own_weight / total)

            refined = own
            for _ in range(self.num_steps):
                after = constant.clone()
                for neighbor, weight in zip(self._around(refined), weights):
                    after.addcmul_(neighbor, weight)
                refined = after.mul_(boxes)
            left, before = ((masks > 0.5).sum((-2, -1)) for masks in (refined, own))
            return refined.where((left >= self.min_share * before)[..., None, None], own)

    def _neighbor_weights(self, colors: Tensor) -> list[Tensor]:
        """Eight of (T, h', w'); 0 for neighbours outside of the frame, padding included."""
        inside = self._around(inside_frame(colors))
        return [
            color_similarity(neighbor, colors, dim=1, theta=self.theta) * known
            for neighbor, known in zip(self._around(colors), inside)
        ]

    def _around(self, maps: Tensor) -> list[Tensor]:
        """Views of (..., h', w') shifted to each of the eight neighbours, 0 outside."""
        height, width = maps.shape[-2:]
        padded = F.pad(maps, (self.dilation,) * 4)
        shifts = (0, self.dilation, 2 * self.dilation)
        return [
            padded[..., y : y + height, x : x + width]
            for y in shifts
            for x in shifts
            if (y, x) != (self.dilation, self.dilation)
        ]
