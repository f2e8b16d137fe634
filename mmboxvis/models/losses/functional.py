"""Tensor maths of the box-supervised losses: no configuration, no state.

Shapes: N instances, T frames, (H, W) the padded input, (h, w) the mask logits, D any length,
K pairs of points. *Working size* is the size at which masks and colours are compared; the *grid*
is every ``stride``-th pixel of it and its points are called nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmboxvis.models.precision import at_least_float32

Offset = tuple[int, int, int]
"""A neighbour ``(dt, dx, dy)``: frames ahead (0 or 1), then steps on the grid."""

_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_D65_WHITE = (0.95047, 1.0, 1.08883)


def works_in_pieces(device: torch.device) -> bool:
    """Whether work is best done in pieces that stay in a cache, as on a processor.

    On other devices it is the number of operations that counts.
    """
    return device.type == 'cpu'


def mask_projections(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Projects masks, or logits, on the two image axes by their maxima (paper Sec. 3.1).

    Args:
        masks: (..., T, H, W).

    Returns:
        The maximum of every column, (..., T, W), and of every row, (..., T, H).
    """
    return masks.amax(-2), masks.amax(-1)


def projection_dice(pred: Tensor, target: Tensor, floor: float = 1e-6) -> Tensor:
    """Dice distance with squared denominator, ``1 - 2 sum(pq) / max(sum(p^2) + sum(q^2), floor)``.

    Args:
        pred: (..., D) in [0, 1].
        target: (..., D) in [0, 1].
        floor: least denominator.

    Returns:
        (...), 0 where both agree and 1 where they share nothing.
    """
    shared = (pred * target).sum(-1)
    total = pred.square().sum(-1) + target.square().sum(-1)
    return 1 - 2 * shared / total.clamp(min=floor)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Converts sRGB to CIE Lab under the D65 white point.

    Args:
        rgb: (..., 3, H, W), RGB in 0-255, any dtype.

    Returns:
        (..., 3, H, W), at least float32: L in [0, 100], a and b roughly in [-128, 128]. Black,
        and so the padding of a batch, becomes (0, 0, 0).

    Raises:
        ValueError: if the third axis from the end has not 3 channels.
    """
    if rgb.dim() < 3 or rgb.shape[-3] != 3:
        raise ValueError(f'rgb must be (..., 3, H, W), got {tuple(rgb.shape)}')
    scaled = at_least_float32(rgb) / 255
    linear = torch.where(scaled > 0.04045, ((scaled + 0.055) / 1.055).pow(2.4), scaled / 12.92)
    red, green, blue = linear.unbind(-3)

    def curve(weights: tuple[float, float, float], white: float) -> Tensor:
        value = (weights[0] * red + weights[1] * green + weights[2] * blue) / white
        root = value.clamp(min=0.008856).pow(1 / 3)
        return torch.where(value > 0.008856, root, 7.787 * value + 4 / 29)

    fx, fy, fz = (curve(row, white) for row, white in zip(_RGB_TO_XYZ, _D65_WHITE))
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=-3)


def inside_frame(colors: Tensor) -> Tensor:
    """Where a frame is not padded at its right and bottom.

    Args:
        colors: (T, 3, h, w), CIE Lab; padding is black.

    Returns:
        (h, w), 1 up to the last row and column in which any frame is not black, else 0.
    """
    seen = (colors[:, 0].amax(0) > 0).to(colors)
    rows, columns = (seen.amax(dim).flip(0).cummax(0).values.flip(0) for dim in (1, 0))
    return rows[:, None] * columns


def working_size(size: tuple[int, int], max_side: int = 480) -> tuple[int, int]:
    """Size at which masks are compared: halved (rounding down) if a side exceeds ``max_side``.

    Args:
        size: (H, W) of the padded input.
        max_side: largest side that is kept.
    """
    height, width = size
    return (height // 2, width // 2) if max(height, width) > max_side else (height, width)


def grid_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Number of nodes, rows and columns, of the grid with ``stride`` on masks of ``size``."""
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def neighbor_offsets(num_neighbors: int, step: int) -> tuple[Offset, ...]:
    """Lists the neighbours a point is paired with (paper Sec. 3.2 and Table 4).

    Args:
        num_neighbors: 2 or 4 spatial neighbours; 5, 7 or 9 with 3 or 5 temporal ones:
            2 + 3, 2 + 5 and 4 + 5.
        step: distance of a neighbour in steps of the grid.

    Raises:
        ValueError: if there is no such set.
    """
    d = step
    right, below, diagonals = (0, d, 0), (0, 0, d), ((0, -d, d), (0, d, d))
    ahead = ((1, 0, 0), (1, d, 0), (1, 0, d))
    behind = ((1, -d, 0), (1, 0, -d))
    sets: dict[int, tuple[Offset, ...]] = {
        2: (right, below),
        4: (right, below, *diagonals),
        5: (right, below, *ahead),
        7: (right, below, *ahead, *behind),
        9: (right, below, *diagonals, *ahead, *behind),
    }
    if num_neighbors not in sets:
        raise ValueError(f'num_neighbors must be one of {sorted(sets)}, got {num_neighbors}')
    return sets[num_neighbors]


def color_similarity(lab: Tensor, other: Tensor, dim: int, theta: float = 2.0) -> Tensor:
    """Similarity of two colours, ``exp(-||c_i - c_j|| / theta)`` in [0, 1] (paper Sec. 3.1).

    Args:
        lab: CIE Lab colours with the 3 channels in axis ``dim``.
        other: the same shape.
        dim: axis of the channels, which is reduced.
        theta: colour distance at which the similarity has fallen to 1/e.
    """
    # written out: linalg.vector_norm is slow where the reduced axis has 3 entries
    first, second, third = (lab - other).square().unbind(dim)
    return (first + second + third).sqrt().div(-theta).exp()


def bilinear_taps(length: int, positions: Tensor, full_length: int) -> tuple[Tensor, Tensor]:
    """Where pixels of an axis resized from ``length`` to ``full_length`` take their values from.

    Bilinear with ``align_corners=False`` and without antialiasing, as
    :func:`torch.nn.functional.interpolate` does: the resized pixel is
    ``(1 - weight) * x[index] + weight * x[min(index + 1, length - 1)]``.

    Args:
        length: size of the axis that is read.
        positions: (D,) integers, pixels of the resized axis.
        full_length: size of the resized axis.

    Returns:
        ``index`` (D,) int64 in ``[0, max(length - 2, 0)]`` and ``weight`` (D,) in [0, 1].
    """
    centers = at_least_float32(positions) + 0.5
    source = (centers * (length / full_length) - 0.5).clamp(0, length - 1)
    index = source.long().clamp(max=max(length - 2, 0))
    return index, source - index


def resize_to_nodes(tensor: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Resizes to ``size`` and keeps every ``stride``-th pixel, computing only those.

    Args:
        tensor: (..., H, W) of a floating type.
        size: working size.
        stride: distance of the nodes in working pixels.

    Returns:
        (..., rows, columns) of the grid.
    """
    if tuple(tensor.shape[-2:]) == tuple(size):
        return tensor[..., ::stride, ::stride]
    for dim in (-2, -1):
        length = tensor.shape[dim]
        positions = torch.arange(0, size[dim], stride, device=tensor.device)
        index, weight = bilinear_taps(length, positions, size[dim])
        weight = weight.to(tensor.dtype).view(-1, *[1] * (-dim - 1))
        low = tensor.index_select(dim, index)
        high = tensor.index_select(dim, (index + 1).clamp(max=length - 1))
        tensor = torch.lerp(low, high, weight)
    return tensor
