"""The loss over listed pairs of points, with its gradient worked out by hand."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.structures.affinity_pairs import PointSamples

_Taps = list[tuple[int, Tensor]]


def _taps(samples: PointSamples) -> _Taps:
    """Distance from the corner in the flattened logits, and weight, of each of the four values."""
    height, width = samples.size
    # a side of 1 has no second value: read the first again, its weight is 0
    right, below = int(width > 1), width * (height > 1)
    wy, wx = samples.weights_y, samples.weights_x
    high = wy * wx
    return [
        (0, 1 - wy - wx + high),
        (right, wx - high),
        (below, wy - high),
        (below + right, high),
    ]


class _PairwiseLoss(torch.autograd.Function):
    """Mean of ``-log P`` over pairs, which keeps nothing but its gradient.

    With ``s = u + v`` the term of a pair is ``softplus(u) + softplus(v) - softplus(s)`` and its
    gradient ``sigmoid(u) - sigmoid(s)``: both need one pass over the points and one over the
    pairs, where autograd would keep a dozen lists of the length of the pairs for every layer.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        samples: PointSamples,
        first: Tensor,
        second: Tensor,
        degrees: Tensor,
    ) -> Tensor:
        flat = logits.reshape(-1)
        taps = _taps(samples)
        reach = len(flat) - taps[-1][0]
        points = torch.zeros_like(samples.weights_x, dtype=flat.dtype)
        for distance, weight in taps:
            values = flat[distance : distance + reach].index_select(0, samples.corners)
            points = torch.addcmul(points, values, weight.to(flat.dtype))
        sums = points.index_select(0, first) + points.index_select(0, second)
        costs = F.softplus(points)
        costs = costs.index_select(0, first) + costs.index_select(0, second) - F.softplus(sums)
        count = max(len(first), 1)
        if ctx.needs_input_grad[0]:
            shared = sums.sigmoid().neg()
            slopes = points.sigmoid() * degrees.to(flat.dtype)
            slopes = slopes.scatter_add(0, first, shared).scatter_add(0, second, shared) / count
            grad = torch.zeros_like(flat)
            for distance, weight in taps:
                part = grad[distance : distance + reach]
                part.scatter_add_(0, samples.corners, slopes * weight.to(flat.dtype))
            ctx.save_for_backward(grad.view(logits.shape))
        return costs.sum() / count

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grad_output, None, None, None, None


def pairwise_loss(
    logits: Tensor, samples: PointSamples, first: Tensor, second: Tensor, degrees: Tensor
) -> Tensor:
    """Mean of ``-log P`` over K pairs of P points read off logits (paper Eq. 3).

    Args:
        logits: (N, T, h, w).
        samples: where the P points are read.
        first: (K,) int64, index of a point.
        second: (K,) int64.
        degrees: (P,), in how many pairs a point is.

    Returns:
        A scalar; 0 with a gradient of 0 where there is no pair. It can be differentiated once.
    """
    return _PairwiseLoss.apply(logits, samples, first, second, degrees)
