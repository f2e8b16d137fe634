"""The tracks found in one video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RLE = dict[str, Any]


@dataclass(frozen=True)
class VideoPrediction:
    """M scored tracks of a video of V frames, masks as COCO run-lengths at the original size.

    Attributes:
        video_id: id of the video in the annotation file.
        size: (height, width) of the original frames.
        num_frames: V.
        labels: (M,) int64, 0-based.
        scores: (M,) float64 in [0, 1].
        track_ids: (M,) int64; tracks with one id share their masks (one query, several classes).
        segmentations: M lists of V entries, a compressed RLE (``counts`` a ``str``) or ``None``
            where the track is not seen.
    """

    video_id: int
    size: tuple[int, int]
    num_frames: int
    labels: np.ndarray
    scores: np.ndarray
    track_ids: np.ndarray
    segmentations: list[list[RLE | None]]

    def to_json(self, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """Lists the tracks in the YouTube-VIS result layout.

        Args:
            category_ids: category id of the annotation file for each label.

        Returns:
            One dict a track with ``video_id``, ``category_id``, ``score``, ``segmentations``.
        """
        return [
            dict(
                video_id=self.video_id,
                category_id=int(category_ids[int(label)]),
                score=float(score),
                segmentations=masks,
            )
            for label, score, masks in zip(
                self.labels, self.scores, self.segmentations, strict=True
            )
        ]
