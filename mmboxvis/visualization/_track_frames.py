"""Tracks of a json file frame by frame, and one colour for tracks that belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils
from scipy.optimize import linear_sum_assignment

from mmboxvis.evaluation.functional import box_track_iou

from ._vis_json import Track
from .overlay import draw_tracks
from .tracks import to_rle


def segmentation_at(track: Track, t: int, size: tuple[int, int]) -> dict[str, Any] | None:
    segmentations = track.get('segmentations')
    return None if segmentations is None else to_rle(segmentations[t], size)


def box_at(track: Track, t: int, size: tuple[int, int]) -> np.ndarray | None:
    """(4,) xyxy at the original size, of the box given or else around the mask."""
    if track.get('bboxes') is not None:
        box = track['bboxes'][t]
    else:
        rle = segmentation_at(track, t, size)
        box = None if rle is None else mask_utils.toBbox(rle)
    if box is None or box[2] <= 0 or box[3] <= 0:
        return None
    x, y, width, height = (float(value) for value in box)
    return np.array([x, y, x + width, y + height])


def color_ids(
    reference: Sequence[Track], tracks: Sequence[Track], steps: Sequence[int], size: tuple[int, int]
) -> list[int]:
    """Ids that give a track the colour of the reference object it overlaps most (box IoU)."""
    overlap = box_track_iou(boxes_at(reference, steps, size), boxes_at(tracks, steps, size))
    rows, columns = linear_sum_assignment(-overlap)
    matched = {int(j): int(i) for i, j in zip(rows, columns, strict=True) if overlap[i, j] > 0.1}
    free = iter(range(len(reference), len(reference) + len(tracks)))
    return [matched[j] if j in matched else next(free) for j in range(len(tracks))]


def boxes_at(tracks: Sequence[Track], steps: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """(M, len(steps), 4) boxes as xywh, zero where a track is not seen."""
    boxes = np.zeros((len(tracks), len(steps), 4))
    for track, out in zip(tracks, boxes, strict=True):
        for t, row in zip(steps, out, strict=True):
            box = box_at(track, t, size)
            if box is not None:
                row[:] = *box[:2], *(box[2:] - box[:2])
    return boxes


def draw_still(
    cell: np.ndarray,
    tracks: Sequence[Track],
    t: int,
    size: tuple[int, int],
    *,
    ids: Sequence[int],
    class_names: Mapping[int, str],
    with_masks: bool,
) -> np.ndarray:
    """Draws the tracks over one frame of their video.

    Args:
        cell: the frame, in any size.
        tracks: of the video, in the YouTube-VIS layout.
        t: number of the frame.
        size: (H, W) of the video, which boxes are in.
        ids: one a track, choose the colours.
        class_names: name of each category id.
        with_masks: draw masks and scores; else boxes.
    """
    scale = np.array([cell.shape[1] / size[1], cell.shape[0] / size[0]] * 2)
    boxes = [box if box is None else box * scale for box in (box_at(k, t, size) for k in tracks)]
    with_scores = with_masks and all('score' in track for track in tracks)
    return draw_tracks(
        cell,
        masks=[segmentation_at(track, t, size) for track in tracks] if with_masks else None,
        boxes=None if with_masks else boxes,
        labels=[track['category_id'] for track in tracks],
        scores=[track['score'] for track in tracks] if with_scores else None,
        track_ids=ids,
        class_names=class_names,
        min_side=None,
        show_ids=False,
    )
