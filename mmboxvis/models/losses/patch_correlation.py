"""Patch correlation of paired points without unfolding patches (paper Eq. 2).

The paper compares the 3x3 patches of two points in an upsampled, normalised feature map:
``S_corr(a, b) = 1/9 sum_o <f(a + o), f(b + o)>``. Unfolding those patches takes gigabytes. Two
facts avoid it:

* for a displacement ``v = b - a`` the summands are values of one map,
  ``R_v(q) = <f(q), f(q + v)>``, so that ``S_corr`` is a 3x3 mean of ``R_v``;
* f is a bilinear upsampling, so that ``R_v(q)`` is a fixed weighted sum of inner products
  between cells of the *native* feature map, divided by two norms.

The work is done in blocks, the smallest squares that hold a whole number of native cells and of
grid nodes. Every block needs the same weighted sum, which is one matrix.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.models.precision import at_least_float32

from .functional import Offset, works_in_pieces

_MAX_SCALE = 4  # larger upsamplings are done beforehand: the matrices grow with scale^4
_CHUNK = 2048  # cells or blocks handled at once: a few MB, which stay in a processor's cache
_GPU_CHUNK = 8192  # fewer calls; some 200 MB of gathered vectors with 256 channels
_EPS = 1e-12  # of the normalisation of a feature vector


class _Axis(NamedTuple):
    """One axis of the geometry, in working pixels unless said."""

    scale: int  # working pixels per native cell
    block: int  # side of a block
    cells: int  # native cells per block
    nodes: int  # grid nodes per block
    start: int  # first pixel of the patches of a block, at or before the block
    pixels: int  # number of pixels the patches of a block cover

    @classmethod
    def create(cls, scale: int, stride: int, patch_size: int) -> _Axis:
        block = math.lcm(scale, stride)
        return cls(
            scale=scale,
            block=block,
            cells=block // scale,
            nodes=block // stride,
            start=-(patch_size // 2),
            pixels=block - stride + patch_size,
        )

    def taps(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Native cells (P, 2) and weights (P, 2) that make up the values at working pixels (P,)."""
        numerator = 2 * pixels + 1 - self.scale
        cells = numerator.div(2 * self.scale, rounding_mode='floor')
        weights = (numerator - 2 * self.scale * cells) / (2 * self.scale)
        return torch.stack([cells, cells + 1], 1), torch.stack([1 - weights, weights], 1)

    def patch_pixels(self) -> Tensor:
        """(pixels,) int64: the working pixels of the patches, counted from the block's first."""
        return torch.arange(self.start, self.start + self.pixels)

    def cell_range(self) -> range:
        """Native cells, counted from the block's first, that its patches touch."""
        # a tap lies at (2 p + 1 - scale) / (2 scale); the second of its cells only if not exact
        first, last = (
            2 * pixel + 1 - self.scale for pixel in (self.start, self.start + self.pixels - 1)
        )
        return range(first // (2 * self.scale), -(-last // (2 * self.scale)) + 1)

    def products(self, shift: int) -> tuple[Tensor, Tensor, Tensor]:
        """Writes the product of each pixel and the one ``shift`` further as products of cells.

        Returns:
            The first cell, the displacement to the second, and the weight, (pixels, 4) each.
        """
        near, near_weights = self.taps(self.patch_pixels())
        far, far_weights = self.taps(self.patch_pixels() + shift)
        displacements = (far[:, None] - near[..., None]).flatten(1)
        weights = (far_weights[:, None] * near_weights[..., None]).flatten(1)
        return near.repeat_interleave(2, 1), displacements, weights


class _Recipe(NamedTuple):
    """Inner products that are needed for a block, and what to do with them."""

    cells: Tensor  # (I, 2) native cells (y, x) of the block and around it
    reach_y: Tensor  # (A,) displacements along y from a cell to its partners
    reach_x: Tensor  # (B,)
    chosen: Tensor  # (D,) which of the A * B displacements are needed
    matrix: Tensor  # (I * D, O * pixels_y * pixels_x)


@lru_cache(maxsize=64)
def _recipe(
    axes: tuple[_Axis, _Axis], shifts: tuple[tuple[int, int], ...], phase: tuple[int, int]
) -> _Recipe:
    """Expands ``R_v`` of the pixels of a block into native inner products.

    Args:
        axes: geometry of y and x.
        shifts: displacements (y, x) in working pixels of the O neighbours.
        phase: what is left of the displacement of the whole row when counted in native cells.
    """
    ranges = [axis.cell_range() for axis in axes]
    cells, displacements, weights = [], [], []
    for i, axis in enumerate(axes):
        near, apart, weight = map(
            torch.stack, zip(*(axis.products(shift[i] + phase[i]) for shift in shifts))
        )
        # (O, pixels_y, pixels_x, 4, 4): every product along y with every product along x
        view = [len(shifts), 1, 1, 1, 1]
        view[1 + i], view[3 + i] = axis.pixels, 4
        full = (len(shifts), axes[0].pixels, axes[1].pixels, 4, 4)
        cells.append((near - ranges[i].start).view(view).expand(full))
        displacements.append(apart.view(view).expand(full))
        weights.append(weight.view(view).expand(full))
    weight = weights[0] * weights[1]
    some = weight > 0
    cell = (cells[0] * len(ranges[1]) + cells[1])[some]
    apart_y, apart_x = (part[some] for part in displacements)
    reach_y, reach_x = (
        torch.arange(int(part.min()), int(part.max()) + 1) for part in (apart_y, apart_x)
    )
    apart = (apart_y - reach_y[0]) * len(reach_x) + apart_x - reach_x[0]
    chosen, kind = apart.unique(return_inverse=True)
    columns = math.prod(full[:3])
    column = torch.arange(columns).view(*full[:3], 1, 1).expand(full)[some]
    matrix = torch.zeros(len(ranges[0]) * len(ranges[1]), len(chosen), columns)
    matrix.index_put_((cell, kind, column), weight[some], accumulate=True)
    near = torch.cartesian_prod(*(torch.tensor(r) for r in ranges))
    return _Recipe(near, reach_y, reach_x, chosen, matrix.flatten(0, 1))


@lru_cache(maxsize=64)
def _recipe_on(
    axes: tuple[_Axis, _Axis],
    shifts: tuple[tuple[int, int], ...],
    phase: tuple[int, int],
    device: torch.device,
) -> _Recipe:
    """A recipe on a device. Kept, for the host waits to send it."""
    return _Recipe(*(part.to(device) for part in _recipe(axes, shifts, phase)))


@lru_cache(maxsize=64)
def _steps_on(steps: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """(O, 2) int64; kept like recipes."""
    return torch.tensor(steps, dtype=torch.long, device=device).view(-1, 2)


def _inner_products(vectors: Tensor, rows: Tensor, partners: Tensor) -> Tensor:
    """Inner products of some pairs of vectors.

    Args:
        vectors: (V, C).
        rows: (L,) int64.
        partners: (L, D) int64.

    Returns:
        (L, D).
    """
    if not works_in_pieces(vectors.device):
        return _gathered_inner_products(vectors, rows, partners)
    # a processor would spend its time on gathering: there, multiply where the vectors lie
    count, width = partners.shape
    if width > len(vectors):  # a sparse row cannot have more entries than columns
        vectors = F.pad(vectors, (0, 0, 0, width - len(vectors)))
    with warnings.catch_warnings():
        # torch calls its sparse tensors beta on their first use
        warnings.filterwarnings('ignore', message='Sparse CSR tensor support')
        pattern = torch.sparse_csr_tensor(
            torch.arange(0, count * width + 1, width),
            partners.flatten(),
            vectors.new_zeros(count * width),
            size=(count, len(vectors)),
            check_invariants=False,
        )
    own = vectors.index_select(0, rows)
    products = torch.sparse.sampled_addmm(pattern, own, vectors.t(), beta=0.0)
    return products.values().view(count, width)


def _gathered_inner_products(vectors: Tensor, rows: Tensor, partners: Tensor) -> Tensor:
    """The same with L * D * C numbers of memory, and dense operations only."""
    gathered = vectors.index_select(0, partners.flatten()).view(*partners.shape, vectors.shape[-1])
    return torch.einsum('lc,ldc->ld', vectors.index_select(0, rows), gathered)


class Rows(NamedTuple):
    """R rows of pairs; those of one row share two frames and a shift (an instance in a frame)."""

    frames: Tensor  # (R,) int64
    other_frames: Tensor  # (R,) int64
    shifts: Tensor  # (R, 2) int64 (y, x): the partner is looked for at ``point - shift``


class _Blocks(NamedTuple):
    """L blocks: row and, counted in blocks, position."""

    row: Tensor  # (L,) int64
    y: Tensor
    x: Tensor


class PatchCorrelation:
    """Correlates patches of an upsampled feature map at given pairs of points (paper Eq. 2).

    Beside the features themselves, memory is a few floats for each working pixel and each
    looked-at pair of cells; patches are never unfolded, and the map is upsampled only where its
    scale is no whole number up to 4.

    Args:
        features: (T, C, h, w), any float type; the upsampling is as by
            :func:`torch.nn.functional.interpolate` without ``align_corners``.
        size: (H, W), the working size.
        stride: distance of the grid nodes in working pixels.
        patch_size: side of the patches in working pixels, odd.

    Example:
        >>> correlation = PatchCorrelation(features, (96, 128), stride=2, patch_size=3)
        >>> frame = torch.arange(3)  # three rows: each frame with itself, not shifted
        >>> rows = Rows(frame, frame, torch.zeros(3, 2, dtype=torch.long))
        >>> row, y, x, neighbor = torch.tensor([[0], [5], [7], [1]])
        >>> correlation(rows, ((0, 2, 0), (0, 0, 2)), row, y, x, neighbor)
        tensor([0.9713])
    """

    def __init__(
        self, features: Tensor, size: tuple[int, int], stride: int, patch_size: int
    ) -> None:
        features = at_least_float32(features)
        scales = [full // length for full, length in zip(size, features.shape[-2:])]
        whole = all(f == s * n for f, s, n in zip(size, scales, features.shape[-2:]))
        if not whole or max(scales) > _MAX_SCALE:
            features = F.interpolate(features, size, mode='bilinear', align_corners=False)
            scales = [1, 1]
        self.size = size
        self.stride = stride
        self.patch_size = patch_size
        self.native_size = (int(features.shape[-2]), int(features.shape[-1]))
        self._scales = (scales[0], scales[1])
        self._axes = (
            _Axis.create(scales[0], stride, patch_size),
            _Axis.create(scales[1], stride, patch_size),
        )
        self._vectors = features.permute(0, 2, 3, 1).flatten(0, 2).contiguous()
        self._chunk = _CHUNK if works_in_pieces(features.device) else _GPU_CHUNK
        self._window = self._patch_means()
        self._inverse_norms = self._compute_inverse_norms(len(features))

    def __call__(
        self,
        rows: Rows,
        offsets: Sequence[Offset],
        row: Tensor,
        y: Tensor,
        x: Tensor,
        neighbors: Tensor,
    ) -> Tensor:
        """Correlates K points with their neighbours.

        Node ``(y, x)`` of a row's frame is compared with node ``(y + dy, x + dx) - shift`` of its
        other frame.

        Args:
            rows: the R rows, shifts counted in steps of the grid.
            offsets: the O neighbours ``(dt, dx, dy)``; ``dt`` is not looked at.
            row: (K,) int64, row of each pair.
            y: (K,) int64, node of each pair.
            x: (K,) int64.
            neighbors: (K,) int64, index into ``offsets``.

        Returns:
            (K,) in [-1, 1]. Parts of a patch outside the image count as zero.
        """
        nodes_y, nodes_x = (axis.nodes for axis in self._axes)
        grid = [-(-length // axis.block) for length, axis in zip(self.size, self._axes)]
        numbers = (row * grid[0] + y // nodes_y) * grid[1] + x // nodes_x
        active = numbers.new_zeros(len(rows.frames), *grid, dtype=torch.bool)
        active.view(-1)[numbers] = True

        rows = rows._replace(shifts=-self.stride * rows.shifts)  # from here on in pixels
        slots = numbers.new_empty(active.numel())
        values, count = [self._vectors.new_zeros(0, len(offsets), nodes_y * nodes_x)], 0
        for phase, members in self._by_phase(rows.shifts):
            if not len(members):
                continue
            member, block_y, block_x = active[members].nonzero().unbind(1)
            blocks = _Blocks(members[member], block_y, block_x)
            place = (blocks.row * grid[0] + block_y) * grid[1] + block_x
            slots[place] = torch.arange(count, count + len(place), device=place.device)
            count += len(place)
            values.append(self._correlate_blocks(rows, offsets, phase, blocks))
        node = (y % nodes_y) * nodes_x + x % nodes_x
        index = slots.index_select(0, numbers) * len(offsets) + neighbors
        return torch.cat(values).view(-1).index_select(0, index * (nodes_y * nodes_x) + node)

    def _by_phase(self, shifts: Tensor) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Groups rows by what their shift leaves when counted in native cells.

        At most 4 groups at the usual scales: those of 4 with a stride of 2.

        Args:
            shifts: (R, 2) in pixels.

        Yields:
            The remainders (y, x) and the indices of the rows that have them.
        """
        units = [math.gcd(scale, self.stride) for scale in self._scales]
        steps = [range(0, scale, unit) for scale, unit in zip(self._scales, units)]
        y, x = (
            part.remainder(scale).div(unit, rounding_mode='floor')
            for part, scale, unit in zip(shifts.unbind(1), self._scales, units)
        )
        kinds = y * len(steps[1]) + x
        order = kinds.argsort(stable=True)
        every = torch.arange(len(steps[0]) * len(steps[1]), device=kinds.device)
        counts = (kinds[:, None] == every).sum(0).tolist()
        yield from zip(itertools.product(*steps), order.split(counts))

    def _correlate_blocks(
        self, rows: Rows, offsets: Sequence[Offset], phase: tuple[int, int], blocks: _Blocks
    ) -> Tensor:
        """Correlates every node of L blocks with its O neighbours.

        Args:
            rows: shifts in pixels.
            offsets: see :meth:`__call__`.
            phase: remainder that the shifts of all blocks share.
            blocks: the L blocks.

        Returns:
            (L, O, nodes of a block).
        """
        device = blocks.row.device
        steps = tuple((self.stride * dy, self.stride * dx) for _, dx, dy in offsets)
        step = _steps_on(steps, device)
        window = self._window
        pixels = self._axes[0].patch_pixels().to(device)
        result = [self._vectors.new_zeros(0, len(offsets), window.shape[1])]
        for part, maps in self._expand(self._axes, rows, steps, phase, blocks):
            row = blocks.row[part]
            shift = rows.shifts.index_select(0, row)[:, None] + step  # (l, O, 2)
            y = blocks.y[part, None, None] * self._axes[0].block + pixels
            x = blocks.x[part, None] * self._axes[1].block + self._axes[1].start
            maps = maps * self._norms_at(rows.frames[row], y, x)
            maps = maps * self._norms_at(
                rows.other_frames[row], y + shift[..., :1], x + shift[..., 1]
            )
            result.append(maps.flatten(2) @ window)
        return torch.cat(result)

    def _expand(
        self,
        axes: tuple[_Axis, _Axis],
        rows: Rows,
        steps: tuple[tuple[int, int], ...],
        phase: tuple[int, int],
        blocks: _Blocks,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Upsamples inner products of native features to the pixels of L blocks.

        Args:
            axes: geometry of the blocks.
            rows: shifts in pixels.
            steps: (y, x) in pixels from a point to its O neighbours.
            phase: remainder that the shifts of all blocks share.
            blocks: the L blocks.

        Yields:
            Some of the blocks at a time, and their (l, O, pixels_y, pixels_x) inner products, not
            yet normalised.
        """
        recipe = _recipe_on(axes, steps, phase, blocks.row.device)
        # number the cells that some block needs; blocks next to each other share them
        starts = [axis.cell_range().start for axis in axes]
        extent = [
            -(-full // axis.block) * axis.cells + len(axis.cell_range())
            for full, axis in zip(self.size, axes)
        ]
        near = [
            position[:, None] * axis.cells + (recipe.cells[:, i] - starts[i])
            for i, (position, axis) in enumerate(zip(blocks[1:], axes))
        ]
        keys = (blocks.row[:, None] * extent[0] + near[0]) * extent[1] + near[1]
        needed = keys.new_zeros(len(rows.frames), *extent, dtype=torch.bool)
        needed.view(-1)[keys] = True
        numbers = needed.view(-1).nonzero().squeeze(1)
        slots = keys.new_empty(needed.numel())
        slots[numbers] = torch.arange(len(numbers), device=numbers.device)
        lines = numbers.div(extent[1], rounding_mode='floor')
        row = lines.div(extent[0], rounding_mode='floor')
        y, x = lines - row * extent[0], numbers - lines * extent[1]

        table = self._multiply_cells(rows, recipe, (row, y + starts[0], x + starts[1]))
        shape = (len(steps), axes[0].pixels, axes[1].pixels)
        matrix = recipe.matrix.to(table)
        for begin in range(0, len(keys), self._chunk):
            part = slice(begin, begin + self._chunk)
            index = slots.index_select(0, keys[part].flatten())
            patches = table.index_select(0, index).view(-1, len(matrix))
            yield part, (patches @ matrix).view(-1, *shape)

    def _multiply_cells(
        self, rows: Rows, recipe: _Recipe, cells: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """(M, D) inner products of M native cells, given as row, y and x, with their partners."""
        height, width = self.native_size
        shift_y, shift_x = (
            part.div(scale, rounding_mode='floor')
            for part, scale in zip(rows.shifts.unbind(1), self._scales)
        )
        products = [self._vectors.new_zeros(0, len(recipe.chosen))]
        for row, y, x in zip(*(part.split(self._chunk) for part in cells)):
            # outside the image the border continues, as in resizing
            own = (rows.frames[row] * height + y.clamp(0, height - 1)) * width
            own = own + x.clamp(0, width - 1)
            lines = (y + shift_y.index_select(0, row))[:, None] + recipe.reach_y
            lines = (rows.other_frames[row, None] * height + lines.clamp(0, height - 1)) * width
            columns = ((x + shift_x.index_select(0, row))[:, None] + recipe.reach_x).clamp(
                0, width - 1
            )
            partners = (lines[:, :, None] + columns[:, None]).flatten(1)
            partners = partners.index_select(1, recipe.chosen)
            products.append(_inner_products(self._vectors, own, partners))
        return torch.cat(products)

    def _norms_at(self, frames: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Inverse norms of the features at working pixels, zero outside the image.

        Args:
            frames: (l,) int64.
            y: (l, 1 or O, pixels_y) int64.
            x: (l, 1 or O) int64, the first of pixels_x pixels.

        Returns:
            (l, 1 or O, pixels_y, pixels_x).
        """
        height, width = self.size
        span = self._axes[1].pixels
        lines = frames[:, None, None] * (height + 2) + y.clamp(-1, height) + 1
        index = lines * (width + span + 1) + (x.clamp(-span, width) + span)[..., None]
        return self._inverse_norms.index_select(0, index.flatten()).view(*index.shape, span)

    def _patch_means(self) -> Tensor:
        """(pixels of a block's patches, nodes of a block): takes the mean of each patch."""
        device = self._vectors.device
        masks = []
        for axis in self._axes:
            first = torch.arange(axis.nodes, device=device) * self.stride
            distance = torch.arange(axis.pixels, device=device)[:, None] - first
            masks.append(((distance >= 0) & (distance < self.patch_size)).to(self._vectors))
        return torch.kron(masks[0], masks[1]) / self.patch_size**2

    def _compute_inverse_norms(self, num_frames: int) -> Tensor:
        """1 / norm of the working pixels, in a frame of zeros.

        Returns:
            (T * (H + 2) * (W + pixels + 1), pixels): every run of as many pixels along x as the
            patches of a block cover, so that they are fetched as one.
        """
        device = self._vectors.device
        if not works_in_pieces(device):
            return self._in_runs(self._squares_by_enlarging(num_frames))
        axes = (_Axis.create(self._scales[0], 1, 1), _Axis.create(self._scales[1], 1, 1))
        frames = torch.arange(num_frames, device=device)
        height, width = self.native_size
        cells = torch.cartesian_prod(
            frames, torch.arange(height, device=device), torch.arange(width, device=device)
        )
        rows = Rows(frames, frames, frames.new_zeros(num_frames, 2))
        parts = self._expand(axes, rows, ((0, 0),), (0, 0), _Blocks(*cells.unbind(1)))
        squares = torch.cat([part for _, part in parts])
        squares = squares.view(num_frames, height, width, axes[0].pixels, axes[1].pixels)
        return self._in_runs(squares.transpose(2, 3).reshape(num_frames, *self.size))

    def _squares_by_enlarging(self, num_frames: int) -> Tensor:
        """Squared norms (T, H, W) of the working pixels, a few large operations a frame."""
        maps = self._vectors.view(num_frames, *self.native_size, -1).permute(0, 3, 1, 2)
        norms = [
            torch.linalg.vector_norm(F.interpolate(frame, self.size, mode='bilinear'), dim=1)
            for frame in maps.split(1)
        ]
        return torch.cat(norms).square()

    def _in_runs(self, squares: Tensor) -> Tensor:
        """See :meth:`_compute_inverse_norms`."""
        inverse = squares.clamp(min=_EPS**2).rsqrt()
        span = self._axes[1].pixels
        return F.pad(inverse, (span, span, 1, 1)).unfold(-1, span, 1).flatten(0, 2)
