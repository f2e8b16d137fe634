"""Spatio-temporal IoU of tracks.

Shapes: D and G tracks are compared, each over T frames. The IoU of two tracks is
``sum_t |a_t & b_t| / sum_t |a_t | b_t|``: a frame where only one of them is seen adds to the union
(definition of the YouTube-VIS benchmark, paper section 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as mask_api

from .rle import RLE, MaskTrack, join_frames, mask_areas

# pycocotools counts pixels in 32 bits
_MAX_PIXELS = 2**31


def _present(tracks: Sequence[MaskTrack], frame: int) -> tuple[np.ndarray, list[RLE]]:
    indices = [i for i, track in enumerate(tracks) if track[frame]]
    return np.array(indices, dtype=np.int64), [tracks[i][frame] for i in indices]  # type: ignore


def _safe_ratio(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _num_frames(a: Sequence[Sequence], b: Sequence[Sequence]) -> int:
    lengths = {len(track) for tracks in (a, b) for track in tracks}
    if len(lengths) > 1:
        raise ValueError(f'tracks of one video differ in length: {sorted(lengths)} frames')
    return lengths.pop() if lengths else 0


def track_iou(
    a: Sequence[MaskTrack],
    b: Sequence[MaskTrack],
    *,
    labels: tuple[np.ndarray, np.ndarray] | None = None,
    min_frame_iou: float | None = None,
) -> np.ndarray:
    """IoU of each pair of mask tracks of one video.

    With its frames side by side a track is one wide mask, and the IoU of two tracks is that of
    two masks.

    Args:
        a: D tracks, each T compressed run-lengths of one size or ``None``.
        b: G tracks of the same frames.
        labels: (D,) and (G,) classes: only tracks of one class are compared, other pairs are 0.
        min_frame_iou: take into account for each pair only the frames in which the two masks have
            at least this IoU, above 0; ``None`` takes all frames.

    Returns:
        (D, G) float64 in [0, 1]; 0 where neither track has a pixel, or no frame counts.

    Raises:
        ValueError: if the tracks differ in length or the masks of a frame in size.
    """
    num_frames = _num_frames(a, b)
    iou = np.zeros((len(a), len(b)))
    if not len(a) or not len(b):
        return iou
    # classes may share their masks
    tracks = {id(track): track for track in (*a, *b)}
    sizes = {tuple(mask['size']) for track in tracks.values() for mask in track if mask}
    if min_frame_iou is not None or len(sizes) != 1 or _pixels(*sizes) * num_frames >= _MAX_PIXELS:
        iou = _iou_by_frame(a, b, num_frames, min_frame_iou)
        return iou if labels is None else iou * (labels[0][:, None] == labels[1])
    wide = dict(zip(tracks, join_frames([*tracks.values()], *sizes), strict=True))
    wide_a, wide_b = ([wide[id(track)] for track in some] for some in (a, b))
    if labels is None:
        labels = np.zeros(len(a), np.int64), np.zeros(len(b), np.int64)
    for label in np.unique(labels[1]):
        rows, columns = (np.flatnonzero(some == label) for some in labels)
        if len(rows):
            iou[np.ix_(rows, columns)] = mask_api.iou(
                [wide_a[row] for row in rows],
                [wide_b[column] for column in columns],
                [0] * len(columns),
            )
    return iou


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _iou_by_frame(
    a: Sequence[MaskTrack],
    b: Sequence[MaskTrack],
    num_frames: int,
    min_frame_iou: float | None,
) -> np.ndarray:
    """See :func:`track_iou`; frame by frame, all pairs at once.

    The intersection follows from the two areas and pycocotools' IoU ``r`` as ``r (A + B) / (1 +
    r)``, rounded to the whole pixels it must be.
    """
    intersection = np.zeros((len(a), len(b)))
    areas_of_both = np.zeros((len(a), len(b)))
    for frame in range(num_frames):
        rows, masks_a = _present(a, frame)
        columns, masks_b = _present(b, frame)
        areas = mask_areas(masks_a + masks_b)
        area_a, area_b = areas[: len(rows)], areas[len(rows) :]
        if min_frame_iou is None:
            areas_of_both[rows] += area_a[:, None]
            areas_of_both[:, columns] += area_b
        if not len(rows) or not len(columns):
            continue
        iou = np.asarray(mask_api.iou(masks_a, masks_b, [0] * len(columns)))
        if (iou < 0).any():
            row, column = np.argwhere(iou < 0)[0]
            raise ValueError(
                f'frame {frame}: masks of different sizes, '
                f'{masks_a[row]["size"]} and {masks_b[column]["size"]}'
            )
        both = area_a[:, None] + area_b
        shared = np.rint(iou * both / (1 + iou))
        if min_frame_iou is not None:
            counts = iou >= min_frame_iou
            shared, both = shared * counts, both * counts
            areas_of_both[np.ix_(rows, columns)] += both
        intersection[np.ix_(rows, columns)] += shared
    return _safe_ratio(intersection, areas_of_both - intersection)


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
