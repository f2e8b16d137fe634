"""What all assigners share: costs of every layer, one assignment a layer, one transfer for all.

Shapes: L layers, Q queries, K classes, N instances, T frames, (h, w) the prediction grid, (H, W)
the padded input, P points.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmboxvis.models.losses.point_sampling import sample_shared_points
from mmboxvis.structures import ClipTargets, PseudoMasks

from .match_costs import point_bce_cost, point_dice_cost

Assignment = tuple[Tensor, Tensor]
LayerCost = Callable[[Tensor, Tensor], Tensor]

_MOST_VALUES = 2**20  # logits, or values at points, of the layers that are handled at once


def hungarian(costs: Tensor) -> list[Assignment]:
    """Cheapest one-to-one assignment of queries to instances in each layer.

    All layers cross from the device to the host in one copy, and their indices back in one.
    A cost that is not finite (a network in half precision can overflow) is replaced by one that
    outweighs any assignment without it, with a warning that counts them.

    Args:
        costs: (L, Q, N).

    Returns:
        For each layer ``query_inds`` (n,) and ``gt_inds`` (n,), int64 on the device of ``costs``,
        with n = min(Q, N) and ``gt_inds`` ascending.
    """
    host = costs.detach().cpu().double().numpy()
    num_layers, num_queries, num_gts = host.shape
    num_pairs = min(num_queries, num_gts)
    finite = np.isfinite(host)
    if not finite.all():
        warnings.warn(
            f'{host.size - finite.sum()} of {host.size} matching costs are not finite: the '
            'predictions hold inf or nan; such pairs are matched last',
            RuntimeWarning,
            stacklevel=2,
        )
        largest = np.abs(host[finite]).max(initial=1)
        host = np.where(finite, host, 2 * (num_pairs + 1) * largest)
    pairs = np.empty((num_layers, 2, num_pairs), np.int64)
    for layer, cost in enumerate(host):
        # transposed, because scipy sorts by row: the instances come out ascending
        pairs[layer] = linear_sum_assignment(cost.T)
    return [
        (query_inds, gt_inds) for gt_inds, query_inds in torch.from_numpy(pairs).to(costs.device)
    ]


class ClipAssigner(ABC):
    """Matches the predictions of every decoder layer of one clip to its instances.

    Subclasses say what a pair costs (:meth:`_layer_cost`); this class runs it over the layers, in
    float32 and without gradient, and solves the assignments.

    Large layers are walked one by one for the sake of memory: the point terms hold about
    4 * Q * T * P floats for a layer (60 MB with 100 queries, 3 frames and 12544 points), which
    would be 600 MB for ten layers at once. Small ones go together, for there the number of calls
    counts. What concerns the targets is computed once for all.

    Args:
        cls_weight: weight of the class cost.
        mask_weight: weight of the binary cross-entropy at points.
        dice_weight: weight of the dice distance at points.
        num_points: P, random points shared by all frames, queries, instances and layers.
    """

    def __init__(
        self, *, cls_weight: float, mask_weight: float, dice_weight: float, num_points: int
    ) -> None:
        if num_points < 1:
            raise ValueError(f'num_points must be at least 1, not {num_points}')
        self.cls_weight = cls_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.num_points = num_points

    def costs(
        self,
        cls_logits: Sequence[Tensor] | Tensor,
        mask_logits: Sequence[Tensor] | Tensor,
        targets: ClipTargets,
        pseudo: PseudoMasks | None = None,
        threshold: float = 0.0,
        *,
        points: Tensor | None = None,
    ) -> Tensor:
        """Cost of every query for every instance.

        Args:
            cls_logits: (L, Q, K+1), or the L layers in a list.
            mask_logits: (L, Q, T, h, w), or the L layers in a list, which need not be copied.
            targets: the N instances of the clip.
            pseudo: their pseudo masks, where the assigner uses such.
            threshold: score from which a pseudo mask counts, in [0, 1].
            points: (P, 2) xy in [0, 1] to sample masks at; drawn from torch's global generator if
                not given.

        Returns:
            (L, Q, N) float32, without gradient.

        Raises:
            ValueError: if predictions and targets do not have the same number of frames.
        """
        first = mask_logits[0]
        if len(targets) == 0:
            return first.new_zeros((len(mask_logits), len(first), 0), dtype=torch.float32)
        _check_frames(first, targets.box_masks)
        with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
            layer_cost = self._layer_cost(targets, first.shape[-2:], pseudo, threshold, points)
            return self._run(layer_cost, cls_logits, mask_logits)

    def assign(
        self,
        cls_logits: Sequence[Tensor] | Tensor,
        mask_logits: Sequence[Tensor] | Tensor,
        targets: ClipTargets,
        pseudo: PseudoMasks | None = None,
        threshold: float = 0.0,
        *,
        points: Tensor | None = None,
    ) -> list[Assignment]:
        """Matches every layer; arguments as for :meth:`costs`.

        Returns:
            For each layer ``query_inds`` (n,) and ``gt_inds`` (n,), int64, n = min(Q, N),
            ``gt_inds`` ascending. With N > Q some instances stay without a query.
        """
        return hungarian(
            self.costs(cls_logits, mask_logits, targets, pseudo, threshold, points=points)
        )

    @abstractmethod
    def _layer_cost(
        self,
        targets: ClipTargets,
        size: torch.Size,
        pseudo: PseudoMasks | None,
        threshold: float,
        points: Tensor | None,
    ) -> LayerCost:
        """Prepares the targets, N >= 1, for a prediction grid of ``size`` (h, w).

        Returns:
            A function from float32 (Q, K+1) and (Q, T, h, w) to costs (Q, N).
        """

    def _run(
        self,
        layer_cost: LayerCost,
        cls_logits: Sequence[Tensor] | Tensor,
        mask_logits: Sequence[Tensor] | Tensor,
    ) -> Tensor:
        """Costs (L, Q, N) of L layers, as many at once as ``_MOST_VALUES`` allows."""
        num_queries, num_frames, *size = mask_logits[0].shape
        a_layer = num_queries * num_frames * max(math.prod(size), self.num_points)
        step = max(_MOST_VALUES // max(a_layer, 1), 1)
        # what a query costs does not depend on the others, so layers are just more queries
        parts = [
            layer_cost(
                _joined(cls_logits[i : i + step]).float(),
                _joined(mask_logits[i : i + step]).float(),
            )
            for i in range(0, len(mask_logits), step)
        ]
        return torch.cat(parts).unflatten(0, (len(mask_logits), num_queries))

    def _draw_points(self, device: torch.device) -> Tensor:
        return torch.rand(self.num_points, 2, device=device)

    def _point_cost(self, mask_logits: Tensor, points: Tensor, targets: Tensor) -> Tensor:
        """Weighted sum of both point terms, (Q, T, h, w) and targets (N, T*P) -> (Q, N)."""
        logits = sample_shared_points(mask_logits, points).flatten(1)
        bce = point_bce_cost(logits, targets)
        dice = point_dice_cost(logits, targets)
        return self.mask_weight * bce + self.dice_weight * dice


def _joined(layers: Sequence[Tensor] | Tensor) -> Tensor:
    """Queries of layers one after another; those of a single one are not copied."""
    return layers[0] if len(layers) == 1 else torch.cat(list(layers))


def _check_frames(mask_logits: Tensor, masks: Tensor) -> None:
    if mask_logits.shape[-3] != masks.shape[1]:
        raise ValueError(
            f'the predictions have {mask_logits.shape[-3]} frames, the targets {masks.shape[1]}: '
            'both must come from the same clip'
        )
