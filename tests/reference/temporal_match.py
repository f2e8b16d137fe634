"""Temporal matches the plain way: one node, one instance, one offset at a time."""

from __future__ import annotations

import math

from torch import Tensor


def frame_size(lab: Tensor) -> tuple[int, int]:
    """Rows and columns without the padding, which is black in every frame."""
    seen = [(y, x) for _, y, x in (lab[:, 0] > 0).nonzero().tolist()]
    return 1 + max(y for y, _ in seen), 1 + max(x for _, x in seen)


def similarity(
    lab: Tensor, size: tuple[int, int], t: int, y: int, x: int, dy: int, dx: int
) -> float:
    """``exp(-d / 2)``, d the mean Lab distance of the 3x3 patches around both nodes."""
    frames = len(lab)
    rows, columns = size
    distances = []
    for i in range(y - 1, y + 2):
        for j in range(x - 1, x + 2):
            other = (i + dy, j + dx)
            if not (0 <= i < rows and 0 <= j < columns):
                continue
            if not (0 <= other[0] < rows and 0 <= other[1] < columns):
                continue
            difference = lab[t, :, i, j] - lab[(t + 1) % frames, :, other[0], other[1]]
            distances.append(float((difference**2).sum()) ** 0.5)
    return math.exp(-sum(distances) / len(distances) / 2)


def temporal_matches(
    lab: Tensor,
    inside: Tensor,
    present: Tensor,
    radius: int,
    num_matches: int,
    threshold: float,
    temporal_in_box: str = 'both',
) -> set[tuple[int, int, int, int, int, int]]:
    """Kept pairs as (n, t, y, x, y', x') for colours (T, 3, rows, columns) at the nodes.

    ``present`` (N, T) tells where an instance has a box, ``inside`` the nodes in it.
    """
    instances, frames = inside.shape[:2]
    size = rows, columns = frame_size(lab)
    enough = dict(both=2, any=1)[temporal_in_box]
    kept = set()
    for t in range(frames):
        after = (t + 1) % frames
        for y in range(rows):
            for x in range(columns):
                reach = range(-radius, radius + 1)
                found = [
                    (similarity(lab, size, t, y, x, dy, dx), y + dy, x + dx)
                    for dy in reach
                    for dx in reach
                    if 0 <= y + dy < rows and 0 <= x + dx < columns
                ]
                for like, y2, x2 in sorted(found, reverse=True)[:num_matches]:
                    for n in range(instances):
                        ends = int(inside[n, t, y, x]) + int(inside[n, after, y2, x2])
                        followed = present[n, t] and present[n, after]
                        if like >= threshold and followed and ends >= enough:
                            kept.add((n, t, y, x, y2, x2))
    return kept
