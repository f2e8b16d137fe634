"""The loss over listed pairs of points, with its gradient worked out by hand."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.structures.affinity_pairs import PointSamples

BACKGROUND = -20.0
"""Logit of what is certainly background."""


def _steps(size: tuple[int, int]) -> list[int]:
    """From the corner of a point to the four values it is made of, in the flattened logits."""
    height, width = size
    # a side of 1 has no second value: read the first again, its weight is 0
    right, below = int(width > 1), width * int(height > 1)
    return [0, right, below, below + right]


class _PairwiseLoss(torch.autograd.Function):
    """Mean of ``-log P`` over pairs, which keeps nothing but its gradient.

    ``P = M_i M_j + (1 - M_i)(1 - M_j)`` is the probability that two points carry the same label; in
    logits u and v it is ``(1 + e^(u+v)) / ((1 + e^u)(1 + e^v))``, which needs no small differences.
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
        outside: Tensor | None,
    ) -> Tensor:
        flat = logits.reshape(-1)
        steps, weights = _steps(samples.size), samples.weights.to(flat.dtype)
        reach = len(flat) - steps[-1]
        points = flat.new_zeros(len(samples.corners))
        for step, weight in zip(steps, weights):
            points.addcmul_(flat[step : step + reach].index_select(0, samples.corners), weight)
        if outside is not None:
            points.masked_fill_(outside, BACKGROUND)
        # temporaries of the length of the pairs are reused: fresh memory costs as much as the sums
        sums = points.index_select(0, first).add_(points.index_select(0, second))
        softplus = F.softplus(points)
        costs = softplus.index_select(0, first).add_(softplus.index_select(0, second))
        costs.sub_(F.softplus(sums))
        count = max(len(first), 1)
        if ctx.needs_input_grad[0]:
            shared = sums.sigmoid_()
            slopes = torch.zeros_like(points)
            slopes.scatter_add_(0, first, shared).scatter_add_(0, second, shared)
            slopes = points.sigmoid_().mul_(degrees.to(flat.dtype)).sub_(slopes).div_(count)
            if outside is not None:
                slopes.masked_fill_(outside, 0)
            grad = torch.zeros_like(flat)
            for step, weight in zip(steps, weights):
                grad[step : step + reach].scatter_add_(0, samples.corners, slopes * weight)
            ctx.save_for_backward(grad.view(logits.shape))
        return costs.sum() / count

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grad_output, None, None, None, None, None


def pairwise_loss(
    logits: Tensor,
    samples: PointSamples,
    first: Tensor,
    second: Tensor,
    degrees: Tensor,
    outside: Tensor | None = None,
) -> Tensor:
    """Mean of ``-log P`` over K pairs of P points read off logits (paper Eq. 3).

    Args:
        logits: (N, T, h, w).
        samples: where the P points are read.
        first: (K,) int64, index of a point.
        second: (K,) int64.
        degrees: (P,), in how many pairs a point is.
        outside: (P,) bool, points that are background whatever the logits say, and give them no
            gradient.

    Returns:
        A scalar; 0 with a gradient of 0 where there is no pair. It can be differentiated once.
    """
    return _PairwiseLoss.apply(logits, samples, first, second, degrees, outside)
