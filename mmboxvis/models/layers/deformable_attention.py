"""Multi-scale deformable attention for the CPU without the map of samples.

F frames, Q queries, M heads, L levels, P points a level, D channels a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.ops import MultiScaleDeformableAttention, get_compiling_cuda_version
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmboxvis.registry import MODELS

HAS_GPU_KERNEL = get_compiling_cuda_version() != 'not available'
"""Whether mmcv was compiled with its kernels for a GPU."""

_SUM = 0  # torch's number of this mode of an embedding bag
# Cells of zeros around a level. What is further out is moved to their rim, where a sample and
# both its slopes are 0, as they are for any sample outside.
_PAD = 2


def sample_and_sum(
    values: Tensor, shapes: Sequence[tuple[int, int]], x: Tensor, y: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sum of bilinear samples (equation 3 of https://arxiv.org/abs/2010.04159).

    A bilinear sample is a sum of four rows of ``values``, the result of a query and head thus one
    of 4 * L * P rows: an embedding bag. torch sums bags without writing the rows out, where
    ``grid_sample`` writes every sample and the weighting reads it again twice.

    Args:
        values: (F, S, M, D), the cells of all levels, row by row, level after level.
        shapes: L pairs (h, w), S cells in all.
        x: (F, Q, M, L, P), in cells of the level; 0 is the centre of the first one. Samples
            outside are 0.
        y: as ``x``.
        weights: (F, Q, M, L, P).

    Returns:
        (F, Q, M * D).
    """
    return _SampleAndSum.apply(values, tuple(map(tuple, shapes)), x, y, weights)


class _SampleAndSum(torch.autograd.Function):
    """Works on (F, Q, M * L * P) throughout: broadcast along three or four entries is slow.

    A bag holds the upper left rows of its L * P samples, then the upper right ones, the lower left
    and the lower right ones.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        shapes: tuple[tuple[int, int], ...],
        x: Tensor,
        y: Tensor,
        weights: Tensor,
    ) -> Tensor:
        rows = _padded_rows(values, shapes)
        columns = _Columns.of(shapes, x.shape[2], x.shape[4], x)
        ctx.positions_shape = x.shape
        x, y, weights = (tensor.flatten(2) for tensor in (x, y, weights))
        x, x_low = _split(x, columns.width)
        y, y_low = _split(y, columns.height)
        first = columns.first_rows(x_low, y_low)
        corners = columns.in_bags(_corner_weights(x, y, weights))
        out = F.embedding_bag(
            columns.rows_in_bags(first), rows, per_sample_weights=corners, mode='sum'
        )
        ctx.shapes, ctx.values_shape, ctx.columns = shapes, values.shape, columns
        ctx.save_for_backward(rows, x, y, weights, first)
        return out.view(*first.shape[:2], columns.num_heads * rows.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, x, y, weights, first = ctx.saved_tensors
        columns: _Columns = ctx.columns
        grad = grad.reshape(-1, rows.shape[1])
        grad_values = None
        if ctx.needs_input_grad[0]:
            grad_values = _grad_values(
                grad, x, y, weights, first, ctx.shapes, ctx.values_shape, columns
            )
        grad_x = grad_y = grad_weights = None
        if any(ctx.needs_input_grad[2:]):
            dots = _dots(grad, rows, columns.rows_in_bags(first)).unflatten(1, (4, -1)).unbind(1)
            x, y, weights = (tensor.view(dots[0].shape) for tensor in (x, y, weights))
            right_above, right_below = dots[1] - dots[0], dots[3] - dots[2]
            sample_above = torch.addcmul(dots[0], x, right_above)
            down = torch.addcmul(dots[2], x, right_below) - sample_above
            grad_weights, grad_y, grad_x = (
                part.view(ctx.positions_shape)
                for part in (
                    torch.addcmul(sample_above, y, down),
                    weights * down,
                    weights * torch.lerp(right_above, right_below, y),
                )
            )
        return grad_values, None, grad_x, grad_y, grad_weights


@dataclass(frozen=True)
class _Columns:
    """What belongs to each of the M * L * P samples of a query.

    Attributes:
        num_heads: M.
        width: (M * L * P,) float, of the sample's level.
        height: the same.
        origin: (M * L * P,) int32, row of cell (0, 0) of its level and head in the first frame.
        steps: (M, 4, L * P) int32, rows from the upper left cell to each of the four.
        frame_rows: number of rows a frame.
    """

    num_heads: int
    width: Tensor
    height: Tensor
    origin: Tensor
    steps: Tensor
    frame_rows: int

    @classmethod
    def of(
        cls, shapes: Sequence[tuple[int, int]], num_heads: int, num_points: int, like: Tensor
    ) -> _Columns:
        """Where cells are as :func:`_padded_rows` lays them out."""
        num_cells = _padded_sizes(shapes)
        levels = [
            (h, w, sum(num_cells[:i]) + _PAD * (w + 2 * _PAD + 1))
            for i, (h, w) in enumerate(shapes)
        ]
        each = torch.tensor(levels, device=like.device).repeat_interleave(num_points, 0)
        height, width, start = each.repeat(num_heads, 1).unbind(1)
        heads = torch.arange(num_heads, device=like.device).repeat_interleave(len(each))
        below = width + 2 * _PAD
        steps = torch.stack([torch.zeros_like(below), torch.ones_like(below), below, below + 1])
        return cls(
            num_heads,
            width.to(like.dtype),
            height.to(like.dtype),
            (start * num_heads + heads).int(),
            (steps * num_heads).int().unflatten(1, (num_heads, -1)).transpose(0, 1).contiguous(),
            sum(num_cells) * num_heads,
        )

    @property
    def per_head(self) -> int:
        """L * P, samples of a query and head."""
        return self.steps.shape[2]

    def first_rows(self, x_low: Tensor, y_low: Tensor) -> Tensor:
        """Row of the upper left of the four cells around each sample, (F, Q, M * L * P) int32."""
        # whole numbers are exact in float32 as long as a frame has fewer than 2 ** 24 of them
        cells = torch.addcmul(x_low, y_low, self.width + 2 * _PAD)
        frames = torch.arange(len(x_low), dtype=torch.int32, device=x_low.device)
        first = torch.add(self.origin, cells.int(), alpha=self.num_heads)
        return first + (frames * self.frame_rows)[:, None, None]

    def in_bags(self, corners: Sequence[Tensor]) -> Tensor:
        """Four of (F, Q, M * L * P), joined in the order of the bags."""
        apart = [corner.view(-1, self.per_head) for corner in corners]
        return torch.stack(apart, 1).flatten(1)

    def rows_in_bags(self, first: Tensor) -> Tensor:
        """Rows of all four corners, (F * Q * M, 4 * L * P)."""
        upper_left = first.unflatten(2, (self.num_heads, 1, -1))
        return (upper_left + self.steps).flatten(0, 2).flatten(1)


def _corner_weights(x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    """Weights of the four cells around each sample, from the upper left to the lower right."""
    below = y * weights
    above = weights - below
    right_above, right_below = x * above, x * below
    return above - right_above, right_above, below - right_below, right_below


def _padded_rows(values: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """The cells with a frame of zeros around each level, which is what samples outside read.

    Args:
        values: (F, S, M, D).
        shapes: of the levels.

    Returns:
        (F * S' * M, D), cells of the padded levels, row by row, the heads of a cell together.
    """
    num_cells = _padded_sizes(shapes)
    rows = values.new_zeros(len(values), sum(num_cells), *values.shape[2:])
    for level, padded, (h, w) in zip(
        values.split([h * w for h, w in shapes], 1), rows.split(num_cells, 1), shapes
    ):
        inner = padded.unflatten(1, (h + 2 * _PAD, w + 2 * _PAD))[:, _PAD:-_PAD, _PAD:-_PAD]
        inner.copy_(level.unflatten(1, (h, w)))
    return rows.flatten(0, 2)


def _padded_sizes(shapes: Sequence[tuple[int, int]]) -> list[int]:
    return [(h + 2 * _PAD) * (w + 2 * _PAD) for h, w in shapes]


def _split(positions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """How far each position is past the cell before it, 0 to 1, and that cell."""
    end = lengths + (_PAD - 1)
    inside = torch.clamp(positions, torch.full_like(end, -_PAD), end)
    # fmin, so that a position that is no number still has a cell; its fraction is none
    low = torch.fmin(inside.floor(), end - 1)
    return inside - low, low


def _dots(grad: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
    """Inner products of a bag's gradient with each of its rows.

    Args:
        grad: (B, D), of each bag's sum.
        rows: (R, D).
        indices: (B, n) row numbers.

    Returns:
        (B, n).
    """
    num_rows = indices.shape[1]
    bags = torch.arange(len(grad), dtype=torch.int32, device=grad.device)
    dots = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad.contiguous(),
        rows,
        indices.flatten(),
        bags * num_rows,
        bags[:, None].expand(-1, num_rows).flatten(),
        _SUM,
    )
    return dots.view(indices.shape)


def _grad_values(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    weights: Tensor,
    first: Tensor,
    shapes: Sequence[tuple[int, int]],
    values_shape: torch.Size,
    columns: _Columns,
) -> Tensor:
    """Gradient of the values: each sample's, sorted by cell, is once more a sum of bags.

    The corners of a sample differ by fixed steps, so that one order serves all four: the sums at
    the upper left cell are moved to the corner afterwards.

    Args:
        grad: (F * Q * M, D), of the result.
        x: as :func:`_split` returns it, like ``y``.
        y: see ``x``.
        weights: (F, Q, M * L * P).
        first: see :meth:`_Columns.first_rows`.
        shapes: of the levels.
        values_shape: (F, S, M, D).
        columns: of the samples.
    """
    num_frames, _, num_heads, _ = values_shape
    num_cells = _padded_sizes(shapes)
    found, order = first.flatten().sort()
    starts = torch.searchsorted(
        found,
        torch.arange(
            num_frames * sum(num_cells) * num_heads, dtype=torch.int32, device=found.device
        ),
        out_int32=True,
    )
    bags = (order // columns.per_head).int()
    corners = _corner_weights(*(values.flatten()[order] for values in (x, y, weights)))
    sums = [
        F.embedding_bag(bags, grad, starts, per_sample_weights=corner, mode='sum')
        .view(num_frames, -1, num_heads, grad.shape[1])
        .split(num_cells, 1)
        for corner in corners
    ]
    levels = []
    for (h, w), *parts in zip(shapes, *sums):
        a, b, c, d = (
            part.unflatten(1, (h + 2 * _PAD, w + 2 * _PAD))[:, 1:-_PAD, 1:-_PAD] for part in parts
        )
        level = a[:, 1:, 1:] + b[:, 1:, :-1] + c[:, :-1, 1:] + d[:, :-1, :-1]
        levels.append(level.flatten(1, 2))
    return torch.cat(levels, 1)


def _softmax_of_few(logits: Tensor) -> Tensor:
    """Softmax along a last axis of a dozen entries, for which torch's loop is not vectorised."""
    flat = logits.flatten(0, -2)
    return flat.t().contiguous().softmax(0).t().reshape(logits.shape)


def _sample_by_grid(
    values: Tensor, shapes: Sequence[tuple[int, int]], x: Tensor, y: Tensor, weights: Tensor
) -> Tensor:
    """As :func:`sample_and_sum`, of ``grid_sample`` alone."""
    num_frames, _, num_heads, _ = values.shape
    levels = values.split([h * w for h, w in shapes], 1)
    total = None
    for i, (level, (h, w)) in enumerate(zip(levels, shapes)):
        maps = level.flatten(2).transpose(1, 2).reshape(num_frames * num_heads, -1, h, w)
        grid = torch.stack([(2 * x[..., i, :] + 1) / w - 1, (2 * y[..., i, :] + 1) / h - 1], -1)
        samples = F.grid_sample(maps, grid.transpose(1, 2).flatten(0, 1), align_corners=False)
        part = samples * weights[..., i, :].transpose(1, 2).flatten(0, 1)[:, None]
        total = part.sum(-1) if total is None else total + part.sum(-1)
    assert total is not None
    return total.unflatten(0, (num_frames, num_heads)).flatten(1, 2).transpose(1, 2)


@MODELS.register_module()
class FusedDeformableAttention(MultiScaleDeformableAttention):
    """mmcv's ``MultiScaleDeformableAttention``, faster on the CPU.

    Parameters, their names, arguments and result are mmcv's. On the CPU it takes
    :func:`sample_and_sum`; everywhere else, and for reference boxes, it is mmcv's own, with its
    kernel for the GPU. Where mmcv was compiled without that, a GPU samples with ``grid_sample``.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        level_start_index: Tensor | None = None,
        level_shapes: Sequence[tuple[int, int]] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """See mmcv; ``level_shapes`` spares reading the numbers out of ``spatial_shapes``."""
        assert reference_points is not None and spatial_shapes is not None
        # mmcv takes its kernel on a GPU whether it has one or not
        plain = query.device.type == 'cuda' and not HAS_GPU_KERNEL
        if reference_points.shape[-1] != 2 or (query.device.type != 'cpu' and not plain):
            return super().forward(
                query,
                key,
                value,
                identity,
                query_pos=query_pos,
                key_padding_mask=key_padding_mask,
                reference_points=reference_points,
                spatial_shapes=spatial_shapes,
                level_start_index=level_start_index,
                **kwargs,
            )
        value = query if value is None else value
        identity = query if identity is None else identity
        query = query if query_pos is None else query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        values = self.value_proj(value)
        if key_padding_mask is not None:
            values = values.masked_fill(key_padding_mask[..., None], 0.0)
        shapes = level_shapes or [tuple(shape) for shape in spatial_shapes.tolist()]
        x, y = self._positions(query, reference_points, shapes)
        weights = _softmax_of_few(self.attention_weights(query).unflatten(-1, (self.num_heads, -1)))
        values, weights = values.unflatten(-1, (self.num_heads, -1)), weights.view(x.shape)
        if plain or torch.compiler.is_exporting():
            # other runtimes have a grid sampler and no embedding bag
            out = _sample_by_grid(values, shapes, x, y, weights)
        else:
            out = sample_and_sum(values, shapes, x, y, weights)
        out = self.output_proj(out)
        return self.dropout(out if self.batch_first else out.transpose(0, 1)) + identity

    def _positions(
        self, query: Tensor, reference_points: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Columns x and rows y of all samples in cells, (F, Q, M, L, P) each."""
        size = reference_points.new_tensor([(w, h) for h, w in shapes])
        # (F, Q, 1, L * P, 2): broadcast along the few points alone is slow
        origin = (reference_points * size - 0.5).repeat_interleave(self.num_points, 2)[:, :, None]
        weight, bias = self.sampling_offsets.weight, self.sampling_offsets.bias
        # offsets of a cell's width, x and y in turn; apart they are contiguous
        x, y = (
            F.linear(query, weight[i::2], bias[i::2]).unflatten(-1, (self.num_heads, -1))
            + origin[..., i]
            for i in (0, 1)
        )
        each = (self.num_levels, self.num_points)
        return x.unflatten(-1, each), y.unflatten(-1, each)
