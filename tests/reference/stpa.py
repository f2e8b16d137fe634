"""Spatial-temporal pairwise affinity the plain way, as the released program goes about it.

Features are upsampled, normalised and unfolded into patches; instances, frames and neighbours
are looped over, and every map is of the size of the grid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

OFFSETS = {
    'right, below': [(0, 1, 0), (0, 0, 1)],
    'diagonals': [(0, -1, 1), (0, 1, 1)],
    'ahead': [(1, 0, 0), (1, 1, 0), (1, 0, 1)],
    'behind': [(1, -1, 0), (1, 0, -1)],
}
SETS = {
    2: ['right, below'],
    4: ['right, below', 'diagonals'],
    5: ['right, below', 'ahead'],
    7: ['right, below', 'ahead', 'behind'],
    9: ['right, below', 'diagonals', 'ahead', 'behind'],
}


class Pairs(NamedTuple):
    offsets: list[tuple[int, int, int]]
    keep: Tensor  # (offsets, N, T, rows, columns) bool
    shifts: list[list[tuple[int, int]]]  # N x T (x, y)
    size: tuple[int, int]
    stride: int

    def counts(self) -> Tensor:
        return self.keep.flatten(2).sum(-1)


def look_up(grid: Tensor, dx: int, dy: int) -> Tensor:
    """(..., rows, columns): the value at (y + dy, x + dx), zero outside."""
    rows, columns = grid.shape[-2:]
    out = torch.zeros_like(grid)
    y0, y1 = max(0, -dy), min(rows, rows - dy)
    x0, x1 = max(0, -dx), min(columns, columns - dx)
    if y0 < y1 and x0 < x1:
        out[..., y0:y1, x0:x1] = grid[..., y0 + dy : y1 + dy, x0 + dx : x1 + dx]
    return out


def resize(tensor: Tensor, size: tuple[int, int]) -> Tensor:
    if not tensor.numel():
        return tensor.new_zeros(*tensor.shape[:-2], *size)
    return F.interpolate(tensor, size, mode='bilinear', align_corners=False)


def build_pairs(
    lab: Tensor,
    features: Tensor | None,
    boxes: Tensor,
    box_masks: Tensor,
    num_neighbors: int = 7,
    dilation: int = 4,
    stride: int = 2,
    patch_size: int = 3,
    color_thr: float = 0.3,
    corr_thr: float = 0.9,
    use_patch_corr: bool | None = None,
    use_center_shift: bool | None = None,
    temporal_in_box: str = 'both',
    wrap_last: bool = True,
    max_side: int = 480,
) -> Pairs:
    height, width = lab.shape[-2:]
    size = (height // 2, width // 2) if max(height, width) > max_side else (height, width)
    step = max(dilation // stride, 1)
    offsets = [(dt, dx * step, dy * step) for k in SETS[num_neighbors] for dt, dx, dy in OFFSETS[k]]
    if use_patch_corr is None:
        use_patch_corr = num_neighbors in (5, 7, 9)
    if use_center_shift is None:
        use_center_shift = num_neighbors in (5, 7, 9)

    lab = resize(lab, size)[..., ::stride, ::stride]
    masks = resize(box_masks, size)[..., ::stride, ::stride] > 0.5
    num_frames, _, rows, columns = lab.shape
    patches = None
    if use_patch_corr:
        upsampled = F.normalize(resize(features, size), dim=1, eps=1e-12)
        # (T, C * 9, rows, columns)
        patches = F.unfold(upsampled, patch_size, padding=patch_size // 2, stride=stride)
        patches = patches.view(num_frames, -1, rows, columns)

    def alike(lab_a: Tensor, lab_b: Tensor, patches_a: Tensor | None, patches_b: Tensor | None):
        color = torch.exp(-torch.linalg.vector_norm(lab_a - lab_b, dim=-3) / 2)
        if patches_a is None:
            return color >= color_thr
        corr = (patches_a * patches_b).sum(-3) / patch_size**2
        return color + 0.5 * corr >= color_thr + 0.5 * corr_thr

    exists = torch.ones(rows, columns, dtype=torch.bool)
    keep = torch.zeros(len(offsets), len(boxes), num_frames, rows, columns, dtype=torch.bool)
    shifts = [[(0, 0)] * num_frames for _ in boxes]
    for i, (dt, dx, dy) in enumerate(offsets):
        if dt:
            continue
        similar = alike(
            lab,
            look_up(lab, dx, dy),
            patches,
            None if patches is None else look_up(patches, dx, dy),
        )
        for n in range(len(boxes)):
            in_box = masks[n] | look_up(masks[n], dx, dy)
            keep[i, n] = similar & in_box & look_up(exists, dx, dy)
    for n in range(len(boxes) if num_frames > 1 else 0):
        for t in range(num_frames):
            after = (t + 1) % num_frames
            if not any(dt for dt, _, _ in offsets) or (after == 0 and not wrap_last):
                continue
            box, box_after = boxes[n, t], boxes[n, after]
            if any(b[2] <= b[0] or b[3] <= b[1] for b in (box, box_after)):
                continue
            center = (box[:2] + box[2:]) / 2 * torch.tensor([columns, rows])
            center_after = (box_after[:2] + box_after[2:]) / 2 * torch.tensor([columns, rows])
            cx, cy = (round(d) for d in (center - center_after).tolist())
            if not use_center_shift:
                cx = cy = 0
            if abs(cx) >= columns - 2 or abs(cy) >= rows - 2:
                continue
            shifts[n][t] = (cx, cy)
            # frame `after`, moved so that the object lies where it is in frame t
            lab_moved = look_up(lab[after], -cx, -cy)
            mask_moved = look_up(masks[n, after], -cx, -cy)
            exists_moved = look_up(exists, -cx, -cy)
            patches_moved = None if patches is None else look_up(patches[after], -cx, -cy)
            for i, (dt, dx, dy) in enumerate(offsets):
                if not dt:
                    continue
                similar = alike(
                    lab[t],
                    look_up(lab_moved, dx, dy),
                    None if patches is None else patches[t],
                    None if patches is None else look_up(patches_moved, dx, dy),
                )
                mask_b = look_up(mask_moved, dx, dy)
                in_box = masks[n, t] & mask_b if temporal_in_box == 'both' else masks[n, t] | mask_b
                keep[i, n, t] = similar & in_box & look_up(exists_moved, dx, dy)
    return Pairs(offsets, keep, shifts, size, stride)


def stpa_loss(mask_logits: Tensor, pairs: Pairs, box_masks: Tensor | None = None) -> Tensor:
    """Mean of -log P over the kept pairs; with boxes, all outside them is background."""
    if not len(mask_logits):
        return mask_logits.sum()
    logits = resize(mask_logits, pairs.size)[..., :: pairs.stride, :: pairs.stride]
    if box_masks is not None:
        inside = resize(box_masks, pairs.size)[..., :: pairs.stride, :: pairs.stride] > 0.5
        logits = torch.where(inside, logits, -20.0)
    num_instances, num_frames = logits.shape[:2]
    total = logits.sum() * 0
    for n in range(num_instances):
        for t in range(num_frames):
            cx, cy = pairs.shifts[n][t]
            moved = look_up(logits[n, (t + 1) % num_frames], -cx, -cy)
            for i, (dt, dx, dy) in enumerate(pairs.offsets):
                other = look_up(moved if dt else logits[n, t], dx, dy)
                same = torch.logaddexp(
                    F.logsigmoid(logits[n, t]) + F.logsigmoid(other),
                    F.logsigmoid(-logits[n, t]) + F.logsigmoid(-other),
                )
                total = total - (same * pairs.keep[i, n, t]).sum()
    return total / pairs.keep.sum().clamp(min=1)
