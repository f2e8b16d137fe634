"""Tracks as run-lengths: decoding, removal of near duplicates.

Shorthand: M tracks, V frames, (H, W) the original size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from mmboxvis.evaluation.functional import track_iou
from mmboxvis.run_lengths import RLE, compress, decode


def to_rle(segmentation: Any, size: tuple[int, int]) -> RLE | None:
    """Brings one frame's segmentation, as it stands in a json file, to a compressed RLE.

    Args:
        segmentation: a compressed or plain RLE, a list of polygons, or ``None``.
        size: (height, width), needed for polygons only.

    Returns:
        A compressed RLE, or ``None`` where there is no mask.

    Raises:
        ValueError: it is none of these.
    """
    return None if segmentation is None else compress(segmentation, size)


def decode_mask(segmentation: Any, size: tuple[int, int]) -> np.ndarray | None:
    """Decodes one frame's segmentation and brings it to ``size``.

    Args:
        segmentation: see :func:`to_rle`.
        size: (height, width) of the picture it will be drawn on.

    Returns:
        (height, width) bool, or ``None`` where there is no mask.
    """
    mask = None if segmentation is None else decode(segmentation, size)
    return None if mask is None else resize_mask(mask, size)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a bool or 0/1 mask (h, w) to ``size`` with smooth outlines; returns bool."""
    if mask.shape == tuple(size):
        return mask.astype(bool)
    height, width = size
    shrinking = height < mask.shape[0]
    resized = cv2.resize(
        mask.astype(np.uint8) * 255,
        (width, height),
        interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR,
    )
    return resized > 127


def keep_best_of_duplicates(
    segmentations: Sequence[Sequence[RLE | None]],
    scores: Sequence[float] | np.ndarray,
    iou_thr: float = 0.9,
) -> list[int]:
    """Indices of the tracks to show when several results share one mask.

    A query may be submitted under several classes; only its best scored class is kept.

    Args:
        segmentations: M lists of V compressed RLEs or ``None``.
        scores: (M,).
        iou_thr: a track is dropped when its video IoU with a better one exceeds this.

    Returns:
        Indices by falling score; equal scores keep their order.
    """
    iou = track_iou(segmentations, segmentations)
    kept: list[int] = []
    for index in np.argsort(-np.asarray(scores, dtype=np.float64), kind='stable'):
        if not (iou[index, kept] > iou_thr).any():
            kept.append(int(index))
    return kept
