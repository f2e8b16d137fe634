"""Spatial-temporal pairwise affinity as the released program computes it, to compare speed with.

:mod:`tests.reference.stpa` says what is right and is slower than anybody would write it, for it
shifts whole maps for every instance, frame and neighbour. Here the work is that of the released
program: features are enlarged to the working size, normalised and unfolded into patches once a
clip; spatial neighbours are compared on whole maps, once for all instances; temporal neighbours in
a loop over instances and frames that reads the shift off the device and compares what lies in the
box; every loss resizes the logits and looks at all nodes of the grid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .stpa import OFFSETS, SETS, look_up, resize

MAX_SIDE, STRIDE, PATCH, STEP = 480, 2, 3, 2
THRESHOLD = 0.3 + 0.5 * 0.9


class Pairs(NamedTuple):
    offsets: list[tuple[int, int, int]]
    keep: Tensor  # (offsets, N, T, rows, columns) bool
    shifts: list[list[tuple[int, int]]]  # N x T (x, y)
    size: tuple[int, int]


def overlap(length: int, step: int) -> tuple[slice, slice]:
    """Where nodes with a neighbour ``step`` further lie, and where these neighbours do."""
    low, high = max(0, -step), min(length, length - step)
    return slice(low, high), slice(low + step, high + step)


def affinity(lab_a: Tensor, lab_b: Tensor, patches_a: Tensor, patches_b: Tensor) -> Tensor:
    color = torch.exp(-torch.linalg.vector_norm(lab_a - lab_b, dim=-3) / 2)
    return color + 0.5 * (patches_a * patches_b).sum(-3) / PATCH**2


def spatial(lab: Tensor, patches: Tensor, masks: Tensor, dx: int, dy: int) -> Tensor:
    """(N, T, rows, columns): spatial pairs of one neighbour."""
    (y, y_next), (x, x_next) = overlap(lab.shape[-2], dy), overlap(lab.shape[-1], dx)
    keep = torch.zeros_like(masks)
    similar = affinity(
        lab[..., y, x], lab[..., y_next, x_next], patches[..., y, x], patches[..., y_next, x_next]
    )
    in_box = masks[..., y, x] | masks[..., y_next, x_next]
    keep[..., y, x] = (similar >= THRESHOLD) & in_box
    return keep


def center_shift(box: Tensor, box_after: Tensor, rows: int, columns: int) -> tuple[int, int] | None:
    """(x, y) in nodes from the next frame to this one, or None if it cannot be followed."""
    if any(b[2] <= b[0] or b[3] <= b[1] for b in (box, box_after)):
        return None
    size = torch.tensor([columns, rows], device=box.device)
    center, center_after = ((b[:2] + b[2:]) / 2 * size for b in (box, box_after))
    x, y = (int(d) for d in (center - center_after).round().tolist())
    return None if abs(x) >= columns - 2 or abs(y) >= rows - 2 else (x, y)


def region(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the box."""
    y, x = mask.any(1).nonzero(), mask.any(0).nonzero()
    return slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)


def temporal(
    here: tuple[Tensor, ...], after: tuple[Tensor, ...], shift: tuple[int, int], dx: int, dy: int
) -> Tensor:
    """(rows, columns): pairs of one neighbour of an instance in a frame.

    ``here`` and ``after`` hold colours, patches and box mask of the two frames.
    """
    keep = torch.zeros_like(here[2])
    if not here[2].any():
        return keep
    index = []
    for box, length, step, move in zip(region(here[2]), keep.shape, (dy, dx), shift[::-1]):
        # on the grid after the step, and after the shift as well
        low = max(box.start, -step, move - step)
        high = min(box.stop, length - step, length + move - step)
        if low >= high:
            return keep
        index.append((slice(low, high), slice(low + step - move, high + step - move)))
    (y, y_next), (x, x_next) = index
    lab, patches, mask = (part[..., y, x] for part in here)
    lab_next, patches_next, mask_next = (part[..., y_next, x_next] for part in after)
    similar = affinity(lab, lab_next, patches, patches_next)
    keep[y, x] = (similar >= THRESHOLD) & mask & mask_next
    return keep


def build_pairs(
    lab: Tensor, features: Tensor, boxes: Tensor, box_masks: Tensor, num_neighbors: int = 7
) -> Pairs:
    offsets = [
        (dt, dx * STEP, dy * STEP) for part in SETS[num_neighbors] for dt, dx, dy in OFFSETS[part]
    ]
    height, width = lab.shape[-2:]
    size = (height // 2, width // 2) if max(height, width) > MAX_SIDE else (height, width)
    lab = resize(lab, size)[..., ::STRIDE, ::STRIDE]
    masks = resize(box_masks, size)[..., ::STRIDE, ::STRIDE] > 0.5
    num_frames, _, rows, columns = lab.shape
    upsampled = F.normalize(resize(features, size), dim=1, eps=1e-12)
    patches = F.unfold(upsampled, PATCH, padding=PATCH // 2, stride=STRIDE)
    patches = patches.view(num_frames, -1, rows, columns)
    keep = masks.new_zeros(len(offsets), len(boxes), num_frames, rows, columns)
    for i, (dt, dx, dy) in enumerate(offsets):
        if not dt:
            keep[i] = spatial(lab, patches, masks, dx, dy)
    shifts = [[(0, 0)] * num_frames for _ in boxes]
    for n in range(len(boxes) if num_frames > 1 else 0):
        for t in range(num_frames):
            after = (t + 1) % num_frames
            shift = center_shift(boxes[n, t], boxes[n, after], rows, columns)
            if shift is None:
                continue
            shifts[n][t] = shift
            frames = (
                (lab[t], patches[t], masks[n, t]),
                (lab[after], patches[after], masks[n, after]),
            )
            for i, (dt, dx, dy) in enumerate(offsets):
                if dt:
                    keep[i, n, t] = temporal(*frames, shift, dx, dy)
    return Pairs(offsets, keep, shifts, size)


def stpa_loss(mask_logits: Tensor, pairs: Pairs) -> Tensor:
    """Mean of -log P over the kept pairs."""
    logits = resize(mask_logits, pairs.size)[..., ::STRIDE, ::STRIDE]
    num_frames = logits.shape[1]
    moved = torch.stack(
        [
            torch.stack(
                [
                    look_up(logits[n, (t + 1) % num_frames], -shift[0], -shift[1])
                    for t, shift in enumerate(shifts)
                ]
            )
            for n, shifts in enumerate(pairs.shifts)
        ]
    )
    inside, outside = F.logsigmoid(logits), F.logsigmoid(-logits)
    total = logits.sum() * 0
    for keep, (dt, dx, dy) in zip(pairs.keep, pairs.offsets):
        other = look_up(moved if dt else logits, dx, dy)
        same = torch.logaddexp(inside + F.logsigmoid(other), outside + F.logsigmoid(-other))
        total = total - (same * keep).sum()
    return total / pairs.keep.sum().clamp(min=1)
