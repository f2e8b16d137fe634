"""Areas of compressed run-lengths, and the frames of a track as one run-length.

Shape shorthand: S masks of R pairs of runs, N tracks of V frames with P pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as mask_api

from mmboxvis.run_lengths import RLE, RunTotals, as_bytes, compress, read_runs, run_totals

__all__ = ['RLE', 'MaskTrack', 'RunTotals', 'compress', 'join_frames', 'mask_areas', 'run_totals']

MaskTrack = Sequence[RLE | None]

# pycocotools 2.0.11 counts the masks of one call in a byte
_MAX_MASKS = 255
# characters of run-lengths read together: what the processor's cache holds
_CHUNK = 1 << 17


def mask_areas(masks: Sequence[RLE]) -> np.ndarray:
    """(S,) int64 areas in pixels of S compressed run-lengths."""
    chunks = [masks[start : start + _MAX_MASKS] for start in range(0, len(masks), _MAX_MASKS)]
    areas = [mask_api.area(list(chunk)) for chunk in chunks]
    return np.concatenate([np.zeros(0), *areas]).astype(np.int64)


def join_frames(tracks: Sequence[MaskTrack], size: tuple[int, int]) -> list[RLE]:
    """Lays the frames of each track side by side, so that a track is one wide mask.

    As run-lengths go down the columns, those of the frames follow one another.

    Args:
        tracks: N tracks, each V intact run-lengths or ``None``.
        size: (height, width) of every frame; V * height * width must be below 2**31.

    Returns:
        N run-lengths of ``height`` x ``V * width`` pixels.
    """
    ends = np.cumsum([sum(len(mask['counts']) for mask in track if mask) for track in tracks])
    parts = np.split(np.arange(len(tracks)), np.flatnonzero(np.diff(ends // _CHUNK)) + 1)
    return [
        joined
        for part in parts
        if len(part)
        for joined in _join_some([tracks[index] for index in part], size)
    ]


def _join_some(tracks: Sequence[MaskTrack], size: tuple[int, int]) -> list[RLE]:
    num_frames, (height, width) = len(tracks[0]), size
    masks = [mask for track in tracks for mask in track]
    seen = np.flatnonzero([bool(mask) for mask in masks])
    edges = np.zeros((0, 2), np.int64)
    if len(seen):
        runs, first = read_runs(as_bytes([masks[place]['counts'] for place in seen]))  # type: ignore
        # a frame without a mask is background
        skipped = np.diff(seen, prepend=-1) - 1
        lengths = runs.astype(np.int64)
        lengths[first, 0] += skipped * (height * width)
        edges = np.cumsum(lengths).reshape(-1, 2)[runs[:, 1] > 0]
    track_ends = np.arange(1, len(tracks) + 1) * (num_frames * height * width)
    return _encode_pieces(edges, track_ends, (height, num_frames * width))


def _encode_pieces(edges: np.ndarray, ends: np.ndarray, size: tuple[int, int]) -> list[RLE]:
    """Run-lengths of N masks of one size that stand one after the other.

    Args:
        edges: (K, 2) int64, where pieces of foreground begin and end, in order, none empty.
        ends: (N,) int64, where each mask ends.
        size: (height, width) of a mask.
    """
    starts = np.concatenate([[0], ends[:-1]])
    # pieces that touch are one, except where a new mask begins: pycocotools stops where runs of
    # length zero meet
    begins = np.ones(len(edges), bool)
    begins[1:] = edges[1:, 0] > edges[:-1, 1]
    first = np.searchsorted(edges[:, 0], starts)
    begins[first[first < len(edges)]] = True
    closes = np.ones(len(edges), bool)
    closes[:-1] = begins[1:]
    merged = np.stack([edges[begins, 0], edges[closes, 1]], axis=1)
    bounds = np.searchsorted(merged[:, 0], np.append(starts, ends[-1]))
    objects = [
        dict(
            size=list(size),
            counts=np.diff(merged[low:high].ravel(), prepend=start, append=end),
        )
        for low, high, start, end in zip(bounds[:-1], bounds[1:], starts, ends, strict=True)
    ]
    return mask_api.frPyObjects(objects, *size)
