"""Points to compare masks at, and the values of masks there.

Shapes: R rows (one mask each), P points, xy coordinates in [0, 1] relative to the mask's size, so
that masks of different resolutions can be compared at the same points.
"""

from __future__ import annotations

import torch
from mmcv.ops import point_sample
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from torch import Tensor


@torch.no_grad()
def sample_uncertain_points(
    logits: Tensor,
    num_points: int,
    oversample_ratio: float = 3.0,
    importance_sample_ratio: float = 0.75,
) -> Tensor:
    """Draws points where a mask is undecided, and some anywhere (PointRend).

    Of ``oversample_ratio * num_points`` random candidates a row keeps those
    ``importance_sample_ratio * num_points`` with the smallest absolute logit; the rest of its
    points is drawn anew.

    Memory: about 6 * ``oversample_ratio * num_points`` floats a row.

    Args:
        logits: (R, 1, h, w).
        num_points: P.
        oversample_ratio: candidates for each point, at least 1.
        importance_sample_ratio: share of points chosen by uncertainty, in [0, 1].

    Returns:
        (R, P, 2) float32, xy in [0, 1], drawn from torch's global generator.
    """
    if len(logits) == 0:
        return logits.new_zeros((0, num_points, 2), dtype=torch.float32)
    return get_uncertain_point_coords_with_randomness(
        logits.float(), None, num_points, oversample_ratio, importance_sample_ratio
    )


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Reads each row at its own points, bilinearly; what lies beyond the border counts as zero.

    Args:
        maps: (R, 1, h, w), R at least 1.
        points: (R, P, 2).

    Returns:
        (R, P).
    """
    return point_sample(maps, points)[:, 0]


def sample_shared_points(maps: Tensor, points: Tensor) -> Tensor:
    """Reads all maps at the same points, bilinearly.

    The maps become the channels of one image, so that the weights of a point are worked out once.

    Args:
        maps: (..., h, w), at least one map.
        points: (P, 2).

    Returns:
        (..., P).
    """
    size = maps.shape[-2:]
    values = point_sample(maps.reshape(1, -1, *size), points[None])
    return values.reshape(*maps.shape[:-2], len(points))
