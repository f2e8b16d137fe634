"""What refinements of soft masks share: how they are called, and the cells that they work on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch.nn.functional as F
from torch import Tensor


class Refinement(Protocol):
    """Makes masks fit the colours of their frames."""

    def __call__(self, mask_logits: Tensor, lab: Tensor, box_masks: Tensor) -> Tensor:
        """Refines masks.

        Args:
            mask_logits: (N, T, h, w).
            lab: (T, 3, H, W), CIE Lab colours of the frames.
            box_masks: (N, T, H, W), 0 or 1.

        Returns:
            (N, T, h', w') in [0, 1], of a size of its own.
        """
        ...


def refine_masks(
    refinements: Sequence[Refinement], mask_logits: Tensor, lab: Tensor, box_masks: Tensor
) -> Tensor:
    """Refines masks, each time what the refinement before gave; arguments as there.

    Raises:
        ValueError: if there is no refinement.
    """
    if not refinements:
        raise ValueError('there is nothing to refine masks with')
    for refinement in refinements:
        masks = refinement(mask_logits, lab, box_masks)
        mask_logits = masks.logit(eps=1e-6)
    return masks


def require_positive(owner: object, **options: float) -> None:
    """Checks options of a refinement.

    Raises:
        ValueError: if one of them is not above 0.
    """
    wrong = {name: value for name, value in options.items() if value <= 0}
    if wrong:
        raise ValueError(f'options of {type(owner).__name__} must be positive, not {wrong}')


class Cells(NamedTuple):
    """Masks, colours and boxes of a clip with ``(h', w') = ceil((H, W) / stride)``.

    Attributes:
        logits: (N, T, h', w') of the masks.
        colors: (T, 3, h', w'), CIE Lab.
        boxes: (N, T, h', w'), 1 where any part of a cell is in the box, else 0.
    """

    logits: Tensor
    colors: Tensor
    boxes: Tensor

    @classmethod
    def of(cls, mask_logits: Tensor, lab: Tensor, box_masks: Tensor, stride: int) -> Cells:
        """Resizes what refinements are given to cells, in float32."""
        height, width = lab.shape[-2:]
        size = (-(-height // stride), -(-width // stride))
        colors = F.interpolate(lab.float(), size, mode='area')
        if not len(mask_logits):
            none = box_masks.new_zeros((0, len(lab), *size)).float()
            return cls(none, colors, none)
        return cls(
            F.interpolate(mask_logits.float(), size, mode='bilinear'),
            colors,
            F.adaptive_max_pool2d(box_masks.float(), size),
        )
