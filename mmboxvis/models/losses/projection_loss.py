"""Projection loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmboxvis.models.precision import at_least_float32
from mmboxvis.registry import MODELS

from .functional import (
    bilinear_taps,
    mask_projections,
    projection_dice,
    working_size,
)


def _resize(masks: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(masks.shape[-2:]) == size:
        return masks
    return F.interpolate(masks, size, mode='bilinear', align_corners=False)


def resized_projections(logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Projects logits resized to ``size``, without keeping the resized logits for the gradient.

    The place of each maximum is searched first, without gradient; the maxima are then read off
    the logits again, bilinearly. So the gradient costs one value for each row and column, and it
    flows where the maximum is.

    Args:
        logits: (N, T, h, w), at least float32.
        size: (H, W).

    Returns:
        Maxima of the columns, (N, T, W), and of the rows, (N, T, H).
    """
    with torch.no_grad():
        rows_of_max = _argmax_of_columns(logits, size)
        columns_of_max = _argmax_of_columns(logits.mT, (size[1], size[0]))
    every_row = torch.arange(size[0], device=logits.device).expand_as(columns_of_max)
    every_column = torch.arange(size[1], device=logits.device).expand_as(rows_of_max)
    y = torch.cat([rows_of_max, every_row], -1)
    x = torch.cat([every_column, columns_of_max], -1)
    maxima = _read(logits, y, x, size)
    return maxima[..., : size[1]], maxima[..., size[1] :]


def _argmax_of_columns(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Row of the maximum in each column of logits (N, T, h, w) resized to ``size``, (N, T, W).

    Resizing is separable, and linear between two source rows, so that a whole enlargement has its
    maxima next to source rows: in the resized row just before or just after, whichever lies on
    the side of the greater neighbour. One value a source row is compared then, and the resized
    logits are never made.
    """
    height, width = logits.shape[-2:]
    scale, rest = divmod(size[0], height)
    if rest or not scale:
        return _resize(logits, size).argmax(-2)
    index, weight = bilinear_taps(width, torch.arange(size[1], device=logits.device), size[1])
    stretched = torch.lerp(
        logits.index_select(-1, index),
        logits.index_select(-1, (index + 1).clamp(max=width - 1)),
        weight.to(logits.dtype),
    )
    # resizing continues the border outwards
    before = torch.cat([stretched[..., :1, :], stretched[..., :-1, :]], -2)
    after = torch.cat([stretched[..., 1:, :], stretched[..., -1:, :]], -2)
    distance = 0.0 if scale % 2 else 0.5 / scale  # of those rows, in source rows
    nearest = torch.lerp(stretched, torch.maximum(before, after), distance)
    source = nearest.max(-2, keepdim=True).indices
    behind = after.gather(-2, source) > before.gather(-2, source)
    first = scale * source + (scale - 1) // 2
    return (first + behind * (scale % 2 == 0)).squeeze(-2)


def _read(logits: Tensor, y: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Values (N, T, D) of logits resized to ``size`` at pixels y, x (N, T, D)."""
    height, width = logits.shape[-2:]
    device = logits.device
    index_y, weight_y = bilinear_taps(height, torch.arange(size[0], device=device), size[0])
    index_x, weight_x = bilinear_taps(width, torch.arange(size[1], device=device), size[1])
    top, left = index_y[y], index_x[x]
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    weight_y, weight_x = weight_y[y].to(logits.dtype), weight_x[x].to(logits.dtype)
    flat = logits.flatten(2)
    upper = torch.lerp(
        flat.gather(-1, top * width + left), flat.gather(-1, top * width + right), weight_x
    )
    lower = torch.lerp(
        flat.gather(-1, bottom * width + left), flat.gather(-1, bottom * width + right), weight_x
    )
    return torch.lerp(upper, lower, weight_y)


@MODELS.register_module()
class ProjectionLoss(nn.Module):
    """Projections of mask and box on both axes should agree (paper Sec. 3.1).

    The dice distance is taken over all frames of a clip at once, so that a frame without the
    instance pushes its mask to zero.

    Args:
        loss_weight: weight of the loss.
        detach_large: give no gradient for inputs with a side above ``max_side``, as the released
            program does, which resizes the logits of those without gradient.
        max_side: inputs with a longer side are compared at half their size.
    """

    def __init__(
        self, loss_weight: float = 1.0, *, detach_large: bool = False, max_side: int = 480
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.detach_large = detach_large
        self.max_side = max_side

    def forward(
        self,
        mask_logits: Tensor,
        box_masks: Tensor,
        avg_factor: float | Tensor | None = None,
        *,
        box_projections: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Sums the dice distances of both axes over instances.

        Args:
            mask_logits: (N, T, h, w), logits of the queries matched to the N instances.
            box_masks: (N, T, H, W), the filled boxes at the padded input size.
            avg_factor: what the sum is divided by; ``None``: N.
            box_projections: what :meth:`project_boxes` gives for ``box_masks``, to spare
                projecting them again for every layer.

        Returns:
            A scalar, times ``loss_weight``; 0, with a gradient of 0, if N is 0.

        Raises:
            ValueError: if N or T differ.
        """
        if mask_logits.shape[:2] != box_masks.shape[:2]:
            raise ValueError(
                f'mask_logits and box_masks are of different (N, T): '
                f'{tuple(mask_logits.shape[:2])} and {tuple(box_masks.shape[:2])}'
            )
        full_size = (int(box_masks.shape[2]), int(box_masks.shape[3]))
        size = working_size(full_size, self.max_side)
        if not len(mask_logits):
            return at_least_float32(mask_logits).sum() * 0
        # the search for maxima and the dice need float32, whatever autocast says
        with torch.autocast(mask_logits.device.type, enabled=False):
            logits = at_least_float32(mask_logits)
            if self.detach_large and size != full_size:
                logits = logits.detach() + 0 * logits
            targets = box_projections or self.project_boxes(box_masks)
            preds = resized_projections(logits, size)
            distances = [
                projection_dice(pred.sigmoid().flatten(1), target.flatten(1))
                for pred, target in zip(preds, targets)
            ]
            loss = torch.stack(distances).sum()
            return self.loss_weight * loss / (len(logits) if avg_factor is None else avg_factor)

    @torch.no_grad()
    def project_boxes(self, box_masks: Tensor) -> tuple[Tensor, Tensor]:
        """Projections of boxes (N, T, H, W) at the size they are compared at.

        Returns:
            (N, T, W') and (N, T, H') in [0, 1], fractional at the edges where H' is half of H.
        """
        size = working_size((int(box_masks.shape[2]), int(box_masks.shape[3])), self.max_side)
        with torch.autocast(box_masks.device.type, enabled=False):
            return mask_projections(_resize(at_least_float32(box_masks), size))

    def extra_repr(self) -> str:
        """Names the options in ``print(model)``."""
        return f'loss_weight={self.loss_weight}, detach_large={self.detach_large}'
