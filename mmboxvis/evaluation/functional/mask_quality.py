"""How well the best prediction covers each annotated track, whatever its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .layout import Entry, GroundTruth, IouType, Source
from .tracks import pairwise_iou, read_pair, result_tracks


@dataclass(frozen=True)
class MaskQuality:
    """Best IoU of each of the G annotated tracks that are no crowd.

    Attributes:
        iou_type: 'segm' or 'box'.
        best_ious: (G,) float64 in [0, 1], videos in ascending order of id and tracks of a video
            in the order of the file.
        video_ids: (G,) int64.
        mean: mean of ``best_ious``, -1 without an annotation.
        share_50: share of the tracks with an IoU of at least 0.5, -1 without an annotation.
        share_70: the same for 0.7.
    """

    iou_type: IouType
    best_ious: np.ndarray
    video_ids: np.ndarray
    mean: float
    share_50: float
    share_70: float


def mean_best_iou(
    gt: Source | Mapping[str, Any] | GroundTruth,
    results: Source | Sequence[Entry],
    *,
    class_agnostic: bool = True,
    iou_type: Literal['segm', 'box', 'auto'] = 'auto',
) -> MaskQuality:
    """Finds for each annotated track the best spatio-temporal IoU with any result of its video.

    Unlike AP this says nothing about scores or needless predictions: it is the quality of the
    masks that are on offer, for instance to an annotator who picks the right ones.

    Args:
        gt: path of an annotation file, or its loaded json.
        results: path of a result file, or its loaded list.
        class_agnostic: whether a result of another category may cover a track.
        iou_type: see :func:`~.vis_eval.evaluate_vis`.

    Raises:
        ValueError: if something is wrong with an entry; names file, index and field.
    """
    _, gts, entries, settled = read_pair(gt, results, iou_type)
    dts = result_tracks(entries, settled)

    best: list[np.ndarray] = [np.zeros(0)]
    video_ids: list[int] = []
    for video_id, tracks in gts.items():
        wanted = [track for track in tracks if not track.crowd]
        found = dts.get(video_id, [])
        ious = pairwise_iou(found, wanted)
        if not class_agnostic:
            labels = np.array([track.category_id for track in found], dtype=np.int64)
            ious = ious * (labels[:, None] == [track.category_id for track in wanted])
        best.append(ious.max(0, initial=0.0))
        video_ids += [video_id] * len(wanted)
    ious = np.concatenate(best)

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if len(values) else -1.0

    return MaskQuality(
        settled,
        ious,
        np.array(video_ids, dtype=np.int64),
        mean(ious),
        mean(ious >= 0.5),
        mean(ious >= 0.7),
    )
