"""Pairs of points that should carry the same mask label."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PointSamples:
    """How to read P points off mask logits of one size, bilinearly.

    With ``x`` the flattened logits and ``c`` the corner of a point, its value is the weighted sum
    of ``x[c]``, ``x[c + 1]``, ``x[c + w]`` and ``x[c + w + 1]``; along a side of length 1 there is
    no further value and its weights are 0.

    Attributes:
        size: (h, w) of the logits.
        corners: (P,) int64, index into the flattened (N, T, h, w) logits.
        weights: (4, P) in [0, 1], in the order above.
    """

    size: tuple[int, int]
    corners: Tensor
    weights: Tensor


@dataclass(frozen=True)
class AffinityPairs:
    """The K pairs of a clip whose two points are alike, as flat lists.

    Only kept pairs are stored, and only the P nodes that take part in one, so what a loss costs
    depends on how much is kept, not on the size of the images. Node ``(n, t, y, x)`` of the
    (N, T, rows, columns) grid has the number ``((n * T + t) * rows + y) * columns + x``.

    Attributes:
        nodes: (P,) int64, numbers of the nodes in use, ascending.
        first: (K,) int64, index into ``nodes`` of the point itself.
        second: (K,) int64, index into ``nodes`` of its neighbour.
        neighbor_inds: (K,) uint8, which of ``offsets`` leads from the one to the other.
        degrees: (P,) float32, the number of pairs a node is in.
        samples: how the nodes are read off logits of the expected size.
        offsets: the neighbours looked at, ``(dt, dx, dy)`` each.
        shape: (N, T, rows, columns) of the grid.
        working_size: (H, W) that the grid is a part of.
        stride: distance of the nodes in pixels of the working size.
        outside: (P,) bool, the nodes outside the box of their instance, where these are taken for
            background whatever the logits say; ``None`` where the logits count everywhere.
    """

    nodes: Tensor
    first: Tensor
    second: Tensor
    neighbor_inds: Tensor
    degrees: Tensor
    samples: PointSamples
    offsets: tuple[tuple[int, int, int], ...]
    shape: tuple[int, int, int, int]
    working_size: tuple[int, int]
    stride: int
    outside: Tensor | None = None

    @property
    def num_pairs(self) -> int:
        """K, a plain number: reading it does not wait for the device."""
        return int(self.first.shape[0])

    @property
    def num_instances(self) -> int:
        """N, instances without a pair included."""
        return self.shape[0]

    def instances(self) -> Tensor:
        """(K,) int64: the instance each pair belongs to."""
        _, frames, rows, columns = self.shape
        return self.nodes.div(frames * rows * columns, rounding_mode='floor')[self.first]

    def counts(self) -> Tensor:
        """(len(offsets), N) int64: how many pairs are kept, by neighbour and instance."""
        bins = self.neighbor_inds.long() * self.num_instances + self.instances()
        counts = torch.bincount(bins, minlength=len(self.offsets) * self.num_instances)
        return counts.view(len(self.offsets), self.num_instances)

    def select(self, instance_inds: Tensor) -> AffinityPairs:
        """Keeps some instances and renumbers them, for logits of only these in this order.

        Args:
            instance_inds: (M,) integers in [0, N), each at most once.

        Returns:
            The pairs of these instances; instance ``i`` is the former ``instance_inds[i]``.
        """
        _, frames, rows, columns = self.shape
        volume = frames * rows * columns
        inds = instance_inds.to(self.nodes.device).long()
        renumbered = self.nodes.new_full((max(self.num_instances, 1),), -1)
        renumbered = renumbered.scatter(0, inds, torch.arange(len(inds), device=inds.device))
        former = self.nodes.div(volume, rounding_mode='floor')
        now = renumbered[former]
        kept_nodes = (now >= 0).nonzero().squeeze(1)
        # nodes stay ascending, whatever the order of the instances
        numbers, order = ((now - former) * volume + self.nodes)[kept_nodes].sort()
        kept_nodes = kept_nodes[order]
        slots = torch.full_like(self.nodes, -1).scatter(
            0, kept_nodes, torch.arange(len(kept_nodes), device=inds.device)
        )
        kept_pairs = (slots[self.first] >= 0).nonzero().squeeze(1)
        area = frames * self.samples.size[0] * self.samples.size[1]
        return replace(
            self,
            nodes=numbers,
            first=slots[self.first[kept_pairs]],
            second=slots[self.second[kept_pairs]],
            neighbor_inds=self.neighbor_inds[kept_pairs],
            degrees=self.degrees[kept_nodes],
            samples=PointSamples(
                self.samples.size,
                (self.samples.corners + (now - former) * area)[kept_nodes],
                self.samples.weights[:, kept_nodes],
            ),
            shape=(len(inds), frames, rows, columns),
            outside=None if self.outside is None else self.outside[kept_nodes],
        )
