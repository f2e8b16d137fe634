"""Spatio-temporal IoU of tracks.

Shapes: D and G tracks are compared, each over T frames. The IoU of two tracks is
``sum_t |a_t & b_t| / sum_t |a_t | b_t|``: a frame where only one of them is seen adds to the union
(definition of the YouTube-VIS benchmark, paper section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from .rle import RLE, mask_areas

MaskTrack = Sequence[RLE | None]

# up to here, intersecting pair by pair is cheaper than a call of pycocotools' IoU
_FEW_PAIRS = 16


def _safe_ratio(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _check_lengths(a: Sequence[Sequence], b: Sequence[Sequence]) -> None:
    lengths = {len(track) for tracks in (a, b) for track in tracks}
    if len(lengths) > 1:
        raise ValueError(f'tracks of one video differ in length: {sorted(lengths)} frames')


def frame_areas(track: MaskTrack) -> np.ndarray:
    """(T,) float64 areas in pixels of the masks of a track, 0 where there is none."""
    areas = np.zeros(len(track))
    seen = [frame for frame, mask in enumerate(track) if mask]
    areas[seen] = mask_areas([track[frame] for frame in seen])  # type: ignore[misc]
    return areas


def track_iou(
    a: Sequence[MaskTrack],
    b: Sequence[MaskTrack],
    *,
    min_frame_iou: float | None = None,
    areas: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """IoU of each pair of mask tracks of one video.

    No mask is decoded: few pairs are intersected one by one, of many all pairs of a frame at once.

    Args:
        a: D tracks, each T compressed run-lengths of one size or ``None``.
        b: G tracks of the same frames.
        min_frame_iou: take into account for each pair only the frames in which the two masks have
            at least this IoU, above 0; ``None`` takes all frames.
        areas: (D, T) and (G, T) from :func:`frame_areas`, if they are known already.

    Returns:
        (D, G) float64 in [0, 1]; 0 where neither track has a pixel, or no frame counts.

    Raises:
        ValueError: if the tracks differ in length or the masks of a frame in size.
    """
    _check_lengths(a, b)
    if not a or not b:
        return np.zeros((len(a), len(b)))
    area_a, area_b = areas or (
        np.stack([frame_areas(track) for track in tracks]) for tracks in (a, b)
    )
    intersection = np.zeros((len(a), len(b)))
    areas_of_both = np.zeros_like(intersection)
    parts = (
        _shared_by_pair(a, b)
        if len(a) * len(b) <= _FEW_PAIRS
        else _shared_by_frame(a, b, area_a, area_b)
    )
    for frames, shared in parts:
        both = area_a.T[frames, :, None] + area_b.T[frames, None]
        if min_frame_iou is not None:
            counts = _safe_ratio(shared, both - shared) >= min_frame_iou
            shared, both = shared * counts, both * counts
        intersection += shared.sum(0)
        areas_of_both += both.sum(0)
    return _safe_ratio(intersection, areas_of_both - intersection)


def _shared_by_pair(
    a: Sequence[MaskTrack], b: Sequence[MaskTrack]
) -> Iterator[tuple[slice, np.ndarray]]:
    """All frames at once, (T, D, G) pixels that two masks share, each pair by itself."""
    shared = [
        [[_shared_pixels(x, y, frame) if x and y else 0.0 for y in column] for x in row]
        for frame, (row, column) in enumerate(zip(zip(*a), zip(*b)))
    ]
    yield slice(None), np.array(shared, np.float64).reshape(-1, len(a), len(b))


def _shared_pixels(x: RLE, y: RLE, frame: int) -> float:
    _check_sizes(x, y, frame)
    return float(mask_api.area(mask_api.merge([x, y], intersect=True)))


def _shared_by_frame(
    a: Sequence[MaskTrack], b: Sequence[MaskTrack], area_a: np.ndarray, area_b: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Frame by frame, (1, D, G) pixels that two masks share.

    They follow from the two areas and pycocotools' IoU ``r`` of all pairs as ``r (A + B) / (1 +
    r)``, rounded to the whole pixels they must be.
    """
    for frame in range(area_a.shape[1]):
        shared = np.zeros((1, len(a), len(b)))
        # masks without a pixel share none
        rows, columns = (np.flatnonzero(area[:, frame]) for area in (area_a, area_b))
        if not len(rows) or not len(columns):
            yield slice(frame, frame + 1), shared
            continue
        masks_a = [a[row][frame] for row in rows]
        masks_b = [b[column][frame] for column in columns]
        iou = np.asarray(mask_api.iou(masks_a, masks_b, [0] * len(columns)))
        if (iou < 0).any():
            row, column = np.argwhere(iou < 0)[0]
            _check_sizes(masks_a[row], masks_b[column], frame)
        both = area_a[rows, frame, None] + area_b[columns, frame]
        shared[0, rows[:, None], columns] = np.rint(iou * both / (1 + iou))
        yield slice(frame, frame + 1), shared


def _check_sizes(x: Any, y: Any, frame: int) -> None:
    if list(x['size']) != list(y['size']):
        raise ValueError(f'frame {frame}: masks of different sizes, {x["size"]} and {y["size"]}')


def box_track_iou(
    a: np.ndarray, b: np.ndarray, *, min_frame_iou: float | None = None
) -> np.ndarray:
    """IoU of each pair of box tracks of one video.

    Args:
        a: (D, T, 4) boxes ``x, y, width, height`` in pixels, without area where not seen.
        b: (G, T, 4) boxes of the same frames.
        min_frame_iou: see :func:`track_iou`.

    Returns:
        (D, G) float64 in [0, 1]; 0 where neither track has a box, or no frame counts.

    Raises:
        ValueError: if the tracks differ in length.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f'tracks differ in length: {a.shape[1]} and {b.shape[1]} frames')
    low_a, high_a = a[..., :2], a[..., :2] + np.maximum(a[..., 2:], 0)
    low_b, high_b = b[..., :2], b[..., :2] + np.maximum(b[..., 2:], 0)
    area_a, area_b = (high_a - low_a).prod(-1), (high_b - low_b).prod(-1)
    intersection = np.zeros((len(a), len(b)))
    areas_of_both = np.zeros((len(a), len(b)))
    # one frame at a time keeps the memory at D x G
    for frame in range(a.shape[1]):
        low = np.maximum(low_a[:, None, frame], low_b[None, :, frame])
        high = np.minimum(high_a[:, None, frame], high_b[None, :, frame])
        shared = np.maximum(high - low, 0).prod(-1)
        both = area_a[:, None, frame] + area_b[None, :, frame]
        if min_frame_iou is not None:
            counts = _safe_ratio(shared, both - shared) >= min_frame_iou
            shared, both = shared * counts, both * counts
        intersection += shared
        areas_of_both += both
    return _safe_ratio(intersection, areas_of_both - intersection)
