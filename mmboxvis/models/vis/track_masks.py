"""What is kept of the tracks of a video while it streams by: run-lengths and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from pycocotools import mask as mask_utils
from torch import Tensor

from mmboxvis.models.trackers import (
    BaseTracker,
    Candidates,
    OverlapTracker,
    WindowScores,
    mask_quality,
)
from mmboxvis.structures.video_prediction import RLE

MasksT = TypeVar('MasksT', bound='TrackMasks')


def encode_masks(masks: Tensor) -> list[RLE]:
    """(M, H, W) bool to compressed COCO run-lengths with ``str`` counts."""
    columns_first = np.asfortranarray(masks.permute(1, 2, 0).byte().cpu().numpy())
    return [
        dict(size=[int(side) for side in rle['size']], counts=rle['counts'].decode())
        for rle in mask_utils.encode(columns_first)
    ]


@dataclass
class TrackMasks:
    """Encoded masks and pixel counts of the tracks of one video; grows with the RLEs only.

    Attributes:
        segmentations: RLEs by track id and frame.
        counts: (2,) sums of :func:`mask_quality_counts` by track id.
        windows: scores of a tracker whose tracks come and go, ``None`` for the others.
    """

    segmentations: dict[int, dict[int, RLE]] = field(default_factory=dict)
    counts: dict[int, Tensor] = field(default_factory=dict)
    windows: WindowScores | None = None

    @classmethod
    def of(cls: type[MasksT], tracker: BaseTracker, **kwargs: Any) -> MasksT:
        """Begins a video with a tracker; further arguments go to the constructor."""
        by_window = isinstance(tracker, OverlapTracker)
        return cls(windows=WindowScores() if by_window else None, **kwargs)

    def add(self, frame: int, track_ids: list[int], rles: list[RLE], counts: Tensor) -> None:
        """Takes the masks of n tracks in a frame with their counts (n, 2)."""
        for track_id, rle, count in zip(track_ids, rles, counts, strict=True):
            self.counts[track_id] = self.counts.get(track_id, 0) + count
            self.keep(frame, track_id, rle)

    def keep(self, frame: int, track_id: int, rle: RLE) -> None:
        """Keeps one mask."""
        self.segmentations.setdefault(track_id, {})[frame] = rle

    def candidates(self, tracker: BaseTracker) -> Candidates:
        """What to report: class scores times mask quality, best first."""
        if self.windows is not None:
            return tracker.select(self.windows.scores().cpu())
        found = tracker.select(tracker.scores().cpu())
        scores = found.scores.double() * self._quality(found.query_inds.tolist())
        order = scores.argsort(descending=True, stable=True)
        return Candidates(found.query_inds[order], found.labels[order], scores[order])

    def best_classes(
        self, tracker: BaseTracker, track_ids: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels (n,) int64 and scores (n,) float64 of tracks as they stand by now."""
        if not track_ids:
            return np.zeros(0, np.int64), np.zeros(0)
        rows = torch.as_tensor(track_ids)
        if self.windows is not None:
            scores, labels = self.windows.scores().cpu()[rows].max(1)
            return labels.numpy(), scores.double().numpy()
        scores, labels = tracker.scores().cpu()[rows].max(1)
        return labels.numpy(), (scores.double() * self._quality(track_ids)).numpy()

    def _quality(self, track_ids: Sequence[int]) -> Tensor:
        none = torch.zeros(2, dtype=torch.long)
        counts = [self.counts.get(track_id, none) for track_id in track_ids]
        return mask_quality(torch.stack([*counts, none])[:-1]).double()
