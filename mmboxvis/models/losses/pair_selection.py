"""Which points of a clip should carry the same mask label (paper Sec. 3.2).

Shapes: N instances, T frames, (rows, columns) the grid, P nodes inside a box, K pairs. A node of
an instance has one number, ``((n * T + t) * rows + y) * columns + x``; without the instance it
is a *place*. A *row* is a frame of an instance, ``n * T + t``.

Lists of nodes and pairs have the length they need, so building them waits for the device a fixed
number of times a clip, whatever N and T. The alternative, masks over (neighbours, N, T, rows,
columns), never waits but costs several times more memory and time as soon as boxes are smaller
than the image, here and in every loss that reads the pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mmboxvis.structures.affinity_pairs import AffinityPairs, PointSamples

from .functional import Offset, bilinear_taps, color_similarity, works_in_pieces
from .patch_correlation import PatchCorrelation, Rows

_EDGE = 2  # a shift that leaves no more than this many nodes of overlap is not followed


def _unravel(numbers: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Row, y and x of node numbers."""
    lines = numbers.div(grid[1], rounding_mode='floor')
    rows = lines.div(grid[0], rounding_mode='floor')
    return rows, lines - rows * grid[0], numbers - lines * grid[1]


_Ints = int | Tensor


@lru_cache(maxsize=64)
def _offset_table(offsets: tuple[Offset, ...], device: torch.device) -> Tensor:
    """(O, 3) int64: index, dx and dy of each neighbour. Kept, for the host waits to send it."""
    rows = [(index, dx, dy) for index, (_, dx, dy) in enumerate(offsets)]
    return torch.tensor(rows, dtype=torch.long, device=device).view(-1, 3)


class PairList(NamedTuple):
    """K directed pairs: the numbers of both nodes and which neighbour the second one is."""

    first: Tensor
    second: Tensor
    neighbors: Tensor

    @classmethod
    def join(cls, lists: Sequence[PairList]) -> PairList:
        """Appends lists, at least one."""
        return cls(*(torch.cat(parts) for parts in zip(*lists)))

    def take(self, index: Tensor) -> PairList:
        """Picks some pairs."""
        return PairList(*(part.index_select(0, index) for part in self))


@dataclass(frozen=True)
class Affinity:
    """Decides which points are alike: ``S_lab + 0.5 S_corr >= tau`` (paper Sec. 3.2).

    Attributes:
        lab: (3, T * rows * columns) CIE Lab colours of all places.
        threshold: tau.
        correlation: measures ``S_corr``; ``None`` compares colours only.
        corr_weight: weight of ``S_corr``.
    """

    lab: Tensor
    threshold: float
    correlation: PatchCorrelation | None = None
    corr_weight: float = 0.5

    def similar_color(self, first: Tensor, second: Tensor) -> Tensor:
        """Colour similarity of places (K,)."""
        return color_similarity(
            self.lab.index_select(1, first), self.lab.index_select(1, second), dim=0
        )

    @property
    def least_color(self) -> float:
        """Colour similarity below which no correlation can help (``S_corr`` is at most 1)."""
        if self.correlation is None:
            return self.threshold
        return self.threshold - self.corr_weight - 1e-4

    def select(
        self,
        color: Tensor,
        motion: Motion,
        grid: tuple[int, int],
        pairs: PairList,
        offsets: Sequence[Offset],
    ) -> PairList:
        """Picks the pairs that are alike.

        Args:
            color: (K,) colour similarities, none below :attr:`least_color`.
            motion: rows and shifts that the pairs refer to.
            grid: rows and columns of the grid.
            pairs: K pairs.
            offsets: what ``pairs.neighbors`` counts.
        """
        if self.correlation is None:
            return pairs
        row, y, x = _unravel(pairs.first, grid)
        # instances that move alike, or not at all, look at the same places
        next_frames = motion.frames[motion.next_rows]
        frames = torch.stack([motion.frames, next_frames], 1)
        alike, kind = torch.cat([frames, motion.shifts], 1).unique(dim=0, return_inverse=True)
        rows = Rows(alike[:, 0], alike[:, 1], alike[:, 2:])
        row = kind.index_select(0, row)
        correlation = self.correlation(rows, offsets, row, y, x, pairs.neighbors)
        affinity = color + self.corr_weight * correlation
        return pairs.take((affinity >= self.threshold).nonzero().squeeze(1))


class Motion(NamedTuple):
    """Where the neighbours of the points of R rows are: in which row, and how far shifted."""

    frames: Tensor  # (R,) int64, t
    next_rows: Tensor  # (R,) int64
    previous_rows: Tensor  # (R,) int64
    shifts: Tensor  # (R, 2) int64 (y, x): a point here is at ``point - shift`` in the next row
    valid: Tensor  # (R,) bool: whether the instance can be followed to the next row


def stay(num_rows: int, num_frames: int, device: torch.device) -> Motion:
    """The motion of spatial neighbours: they are in the same row."""
    rows = torch.arange(num_rows, device=device)
    still = torch.zeros(num_rows, 2, dtype=torch.long, device=device)
    return Motion(rows % max(num_frames, 1), rows, rows, still, torch.ones_like(rows).bool())


def follow_centers(
    boxes: Tensor, grid: tuple[int, int], *, wrap_last: bool = True, use_center_shift: bool = True
) -> Motion:
    """Box-centre guided shifting: rows follow their instance to the next frame (paper Sec. 3.2).

    Args:
        boxes: (N, T, 4) xyxy in 0-1, all zero where absent.
        grid: rows and columns of the grid.
        wrap_last: whether the last frame is followed by the first.
        use_center_shift: otherwise nothing is shifted.

    Returns:
        The motion; an instance cannot be followed where its box is missing in one of the two
        frames, or where hardly anything of the shifted frame stays in the image.
    """
    num_instances, num_frames = boxes.shape[:2]
    size = boxes.new_tensor(grid)
    centers = ((boxes[..., :2] + boxes[..., 2:]) / 2).flip(-1) * size
    shifts = (centers - centers.roll(-1, 1)).round().long()
    if not use_center_shift:
        shifts = torch.zeros_like(shifts)
    present = (boxes[..., 2:] > boxes[..., :2]).all(-1)
    valid = present & present.roll(-1, 1) & (shifts.abs() < size - _EDGE).all(-1)
    frames = torch.arange(num_frames, device=boxes.device).expand(num_instances, -1)
    if not wrap_last:
        valid = valid & (frames < num_frames - 1)
    rows = torch.arange(num_instances * num_frames, device=boxes.device).view_as(frames)
    return Motion(
        frames.flatten(),
        rows.roll(-1, 1).flatten(),
        rows.roll(1, 1).flatten(),
        shifts.flatten(0, 1),
        valid.flatten(),
    )


@dataclass(frozen=True)
class NodesInBoxes:
    """The P nodes that lie in the box of their instance.

    Attributes:
        inside: (N, T, rows, columns) bool.
        numbers: (P,) int64.
        origins: (P,) int64, number of the first node of the instance: ``number - origin`` is the
            place.
        rows: (P,) int64, ``n * T + t``.
        y: (P,) int64.
        x: (P,) int64.
    """

    inside: Tensor
    numbers: Tensor
    origins: Tensor
    rows: Tensor
    y: Tensor
    x: Tensor

    @classmethod
    def create(cls, inside: Tensor) -> NodesInBoxes:
        """Lists the nodes."""
        numbers = inside.flatten().nonzero().squeeze(1)
        _, num_frames, *grid = inside.shape
        rows, y, x = _unravel(numbers, grid)
        volume = num_frames * grid[0] * grid[1]
        first_rows = rows.div(max(num_frames, 1), rounding_mode='floor')
        return cls(inside, numbers, first_rows * volume, rows, y, x)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return int(self.inside.shape[2]), int(self.inside.shape[3])

    def contain(self, numbers: Tensor) -> Tensor:
        """Whether nodes of any shape are inside the box of their instance."""
        return self.inside.flatten().index_select(0, numbers.flatten()).view(numbers.shape)

    def partners(self, motion: Motion) -> Reach:
        """Where every node is in the next row.

        A neighbour at ``point + offset`` counts only if it is on the grid both before and after
        the shift, as if the whole next frame were shifted onto this one.
        """
        shift_y, shift_x = (shift.index_select(0, self.rows) for shift in motion.shifts.unbind(1))
        rows, columns = self.grid
        row = motion.next_rows.index_select(0, self.rows)
        end_y = rows + shift_y.clamp(max=0)
        valid = motion.valid.index_select(0, self.rows)
        return Reach(
            numbers=(row * rows + self.y - shift_y) * columns + self.x - shift_x,
            y=self.y,
            x=self.x,
            start=(shift_y.clamp(min=0), shift_x.clamp(min=0)),
            # an empty interval where the instance cannot be followed
            end=(torch.where(valid, end_y, 0), columns + shift_x.clamp(max=0)),
            columns=columns,
        )

    def owners(self, motion: Motion) -> Reach:
        """Where every node was in the previous row; undoes :meth:`partners`."""
        rows, columns = self.grid
        row = motion.previous_rows.index_select(0, self.rows)
        shift_y, shift_x = (shift.index_select(0, row) for shift in motion.shifts.unbind(1))
        y, x = self.y + shift_y, self.x + shift_x
        valid = motion.valid.index_select(0, row)
        valid = valid & (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        zero = torch.zeros_like(y)
        return Reach(
            numbers=(row * rows + y) * columns + x,
            y=y,
            x=x,
            start=(zero, zero),
            end=(torch.where(valid, rows, 0), torch.full_like(x, columns)),
            columns=columns,
        )

    def pairs_with(
        self, motion: Motion, offsets: Sequence[Offset], *, both_inside: bool
    ) -> Iterator[tuple[_Ints, Tensor, Tensor, Tensor]]:
        """Pairs nodes with their neighbours, each pair once.

        One neighbour comes at a time on a processor, whose cache its lists then fit into; on other
        devices all o at once, where the number of operations counts.

        Args:
            motion: where neighbours are.
            offsets: the neighbours.
            both_inside: whether both nodes must be in the box of the instance; else one of them.

        Yields:
            Index of the offset, or (o, 1) of them; numbers of the first and of the second nodes,
            (P,) or (o, P), and which of these are pairs at all: the others hold some number of the
            same instance.
        """
        groups: Sequence[tuple[_Ints, ...]] = [
            (index, dx, dy) for index, (_, dx, dy) in enumerate(offsets)
        ]
        if not works_in_pieces(self.numbers.device):
            groups = [_offset_table(tuple(offsets), self.numbers.device).split(1, 1)]
        partners = self.partners(motion)
        for neighbor, dx, dy in groups:
            second, exists = partners.step(dy, dx, otherwise=self.numbers)
            if both_inside:
                exists = exists & self.contain(second)
            yield neighbor, self.numbers.expand_as(second), second, exists
        if both_inside:
            return
        owners = self.owners(motion)
        for neighbor, dx, dy in groups:
            first, exists = owners.step(-dy, -dx, otherwise=self.numbers)
            yield neighbor, first, self.numbers.expand_as(first), exists & ~self.contain(first)


class Reach(NamedTuple):
    """Where P nodes lead to in another row, and which steps from there stay on the grid."""

    numbers: Tensor  # (P,) int64
    y: Tensor  # (P,) int64, what a step is counted from
    x: Tensor
    start: tuple[Tensor, Tensor]  # (P,) int64 each: least y and x after the step
    end: tuple[Tensor, Tensor]  # (P,) int64 each: first y and x that are too large
    columns: int

    def step(self, dy: _Ints, dx: _Ints, otherwise: Tensor) -> tuple[Tensor, Tensor]:
        """Takes one step from every node, or o of them, (o, 1).

        Returns:
            Numbers of the nodes reached, (P,) or (o, P), or ``otherwise``, and whether there is
            such a node.
        """
        y, x = self.y + dy, self.x + dx
        exists = (y >= self.start[0]) & (y < self.end[0])
        exists = exists & (x >= self.start[1]) & (x < self.end[1])
        return torch.where(exists, self.numbers + (dy * self.columns + dx), otherwise), exists


def alike_pairs(
    nodes: NodesInBoxes,
    affinity: Affinity,
    motion: Motion,
    offsets: Sequence[Offset],
    *,
    both_inside: bool,
) -> PairList:
    """Pairs every node with the neighbours it is alike with.

    Args:
        nodes: the nodes in boxes.
        affinity: decides what is alike.
        motion: where neighbours are.
        offsets: the neighbours, at least one.
        both_inside: whether both points must be in the box of the instance; else one of them.
    """
    candidates, colors = [], []
    for neighbor, first, second, exists in nodes.pairs_with(
        motion, offsets, both_inside=both_inside
    ):
        places = ((numbers - nodes.origins).flatten() for numbers in (first, second))
        color = affinity.similar_color(*places)
        kept = exists.flatten() & (color >= affinity.least_color)
        index, pairs = _kept_pairs(kept, first, second, neighbor)
        candidates.append(pairs)
        colors.append(color.index_select(0, index))
    return affinity.select(
        torch.cat(colors), motion, nodes.grid, PairList.join(candidates), offsets
    )


def _kept_pairs(
    kept: Tensor, first: Tensor, second: Tensor, neighbor: _Ints
) -> tuple[Tensor, PairList]:
    """Indices into ``kept`` (o * P,) that hold, and the pairs there.

    Args:
        kept: which pairs.
        first: see :meth:`NodesInBoxes.pairs_with`.
        second: see there.
        neighbor: see there.
    """
    index = kept.nonzero().squeeze(1)
    if isinstance(neighbor, int):
        neighbors = torch.full_like(first, neighbor)
    else:
        neighbors = neighbor.expand_as(first).flatten()
    return index, PairList(first.flatten(), second.flatten(), neighbors).take(index)


def spatial_pairs(nodes: NodesInBoxes, affinity: Affinity, offsets: Sequence[Offset]) -> PairList:
    """Pairs points of the same frame, alike and at least one in the box (paper Sec. 3.1).

    What is alike does not depend on the instance and is found out once for the clip.

    Args:
        nodes: the nodes in boxes.
        affinity: decides what is alike.
        offsets: the spatial neighbours, at least one.
    """
    num_instances, num_frames, *grid = nodes.inside.shape
    device = nodes.inside.device
    everywhere = NodesInBoxes.create(nodes.inside.new_ones(1, num_frames, *grid))
    still = stay(num_frames, num_frames, device)
    alike = alike_pairs(everywhere, affinity, still, offsets, both_inside=True)
    volume = len(everywhere.numbers)
    lookup = nodes.inside.new_zeros(len(offsets) * volume)
    lookup[alike.neighbors * volume + alike.first] = True

    motion = stay(num_instances * num_frames, num_frames, device)
    kept = []
    for neighbor, first, second, exists in nodes.pairs_with(motion, offsets, both_inside=False):
        places = first - nodes.origins + neighbor * volume
        found = lookup.index_select(0, places.flatten())
        kept.append(_kept_pairs(exists.flatten() & found, first, second, neighbor)[1])
    return PairList.join(kept)


def point_samples(
    nodes: Tensor,
    shape: Sequence[int],
    size: tuple[int, int],
    stride: int,
    logits_size: tuple[int, int],
) -> PointSamples:
    """Finds out how nodes are read off mask logits resized to the working size.

    Args:
        nodes: (P,) int64, numbers of the nodes.
        shape: (N, T, rows, columns) of the grid.
        size: (H, W), the working size.
        stride: distance of the nodes.
        logits_size: (h, w).
    """
    rows, y, x = _unravel(nodes, shape[2:])
    corner_y, weight_y = _node_taps(logits_size[0], shape[2], stride, size[0], nodes.device)
    corner_x, weight_x = _node_taps(logits_size[1], shape[3], stride, size[1], nodes.device)
    corners = (rows * logits_size[0] + corner_y.index_select(0, y)) * logits_size[1]
    corners = corners + corner_x.index_select(0, x)
    wy, wx = weight_y.index_select(0, y), weight_x.index_select(0, x)
    high = wy * wx
    return PointSamples(
        logits_size, corners, torch.stack([1 - wy - wx + high, wx - high, wy - high, high])
    )


def _node_taps(
    length: int, count: int, stride: int, full_length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    return bilinear_taps(length, torch.arange(count, device=device) * stride, full_length)


def collect_pairs(
    pairs: PairList,
    offsets: tuple[Offset, ...],
    shape: tuple[int, int, int, int],
    size: tuple[int, int],
    stride: int,
    logits_size: tuple[int, int],
) -> AffinityPairs:
    """Renumbers the nodes that are in use and puts everything a loss needs into one structure.

    Args:
        pairs: the kept pairs.
        offsets: what ``pairs.neighbors`` counts.
        shape: (N, T, rows, columns) of the grid.
        size: the working size.
        stride: distance of the nodes.
        logits_size: expected size of the mask logits.
    """
    used = torch.zeros(math.prod(shape), dtype=torch.bool, device=pairs.first.device)
    used[pairs.first] = True
    used[pairs.second] = True
    nodes = used.nonzero().squeeze(1)
    slots = torch.empty_like(used, dtype=torch.long)
    slots[nodes] = torch.arange(len(nodes), device=nodes.device)
    first, second = slots.index_select(0, pairs.first), slots.index_select(0, pairs.second)
    samples = point_samples(nodes, shape, size, stride, logits_size)
    ones = torch.ones_like(first, dtype=samples.weights.dtype)
    degrees = torch.zeros_like(nodes, dtype=samples.weights.dtype)
    return AffinityPairs(
        nodes=nodes,
        first=first,
        second=second,
        neighbor_inds=pairs.neighbors.to(torch.uint8),
        degrees=degrees.scatter_add(0, first, ones).scatter_add(0, second, ones),
        samples=samples,
        offsets=offsets,
        shape=shape,
        working_size=size,
        stride=stride,
    )
