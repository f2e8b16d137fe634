"""From class scores and enlarged masks to the scores of a video.

Everything that counts pixels is a count a frame, so that it adds up over a stream of frames.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from .base import TrackFrame


class Candidates(NamedTuple):
    """The n scored tracks to write out, best first.

    Attributes:
        query_inds: (n,) int64, row of the scores (query or track id); a row occurs once for each
            class it is proposed for.
        labels: (n,) int64.
        scores: (n,) in [0, 1].
    """

    query_inds: Tensor
    labels: Tensor
    scores: Tensor


def select_candidates(
    scores: Tensor, score_thr: float = 0.05, min_candidates: int = 10
) -> Candidates:
    """Takes the best pairs of query and class (released program).

    All pairs that score more than ``score_thr`` are kept, and at least ``min_candidates`` (fewer
    only where Q·K is less).

    Args:
        scores: (Q, K) class scores.
        score_thr: pairs above it are all kept.
        min_candidates: least number of pairs.

    Returns:
        The pairs, best first.
    """
    flat = scores.flatten()
    num = max(int((flat > score_thr).sum()), min_candidates)
    values, inds = flat.topk(min(num, len(flat)))
    num_classes = max(scores.shape[1], 1)
    return Candidates(inds.div(num_classes, rounding_mode='floor'), inds % num_classes, values)


def select_classes(scores: Tensor, score_thr: float | None = None) -> Candidates:
    """Takes all pairs of track and class, or all that score more than a threshold.

    Args:
        scores: (M, K) class scores.
        score_thr: ``None`` takes every class of every track.

    Returns:
        The pairs, best first.
    """
    values, inds = scores.flatten().sort(descending=True, stable=True)
    if score_thr is not None:
        good = values > score_thr
        values, inds = values[good], inds[good]
    num_classes = max(scores.shape[1], 1)
    return Candidates(inds.div(num_classes, rounding_mode='floor'), inds % num_classes, values)


def mask_quality_counts(
    mask_logits: Tensor, high_logit: float = 1.0, low_logit: float = -1.0
) -> Tensor:
    """Counts the pixels of each mask that are surely and perhaps inside.

    Sum the counts of all frames of a track, then see :func:`mask_quality`.

    Args:
        mask_logits: (..., H, W), enlarged to the network's input size and cut to the image.
        high_logit: pixels above it are surely inside.
        low_logit: pixels above it are perhaps inside.

    Returns:
        (..., 2) int64: pixels above ``high_logit`` and above ``low_logit``.
    """
    return torch.stack(
        [
            torch.count_nonzero(mask_logits > logit, dim=(-2, -1))
            for logit in (high_logit, low_logit)
        ],
        dim=-1,
    )


def mask_quality(counts: Tensor) -> Tensor:
    """Share of the perhaps-inside pixels that are surely inside.

    Args:
        counts: (..., 2), sums of :func:`mask_quality_counts` over the frames of a track.

    Returns:
        (...) float32 in [0, 1]; 0 for a track without any pixel.
    """
    high, low = counts.float().unbind(-1)
    return high / low.clamp(min=1)


def presence_factor(num_seen: Tensor, num_frames: int, rate: float = 3.0) -> Tensor:
    """Lowers the score of tracks that are seen in few frames: ``1 - exp(-rate * seen / V)``.

    Args:
        num_seen: (M,) number of frames in which a track has a pixel.
        num_frames: V, length of the video.
        rate: how fast the factor comes close to 1.

    Returns:
        (M,) float32 in [0, 1).
    """
    return -torch.expm1(-rate * num_seen.float() / max(num_frames, 1))


class WindowScores:
    """Scores of tracks that come and go in windows of frames (released program).

    In each window a track's class scores are multiplied by the quality of its masks there, the
    share of the pixels above ``low_prob`` that are above ``high_prob`` too. The video's scores are
    the mean over the windows in which the track was seen, times :func:`presence_factor`.

    Takes the frames one by one and keeps numbers only, no masks.

    Args:
        high_prob: mask probability of pixels surely inside.
        low_prob: mask probability of pixels inside.
        presence_rate: see :func:`presence_factor`.
    """

    def __init__(
        self, *, high_prob: float = 0.75, low_prob: float = 0.5, presence_rate: float = 3.0
    ) -> None:
        self.high_logit, self.low_logit = (math.log(p / (1 - p)) for p in (high_prob, low_prob))
        self.presence_rate = presence_rate
        self._num_frames = 0
        self._window = 0
        # of the window at hand, by track id
        self._counts: Tensor | None = None  # (M, 2)
        self._cls_probs: Tensor  # (M, K)
        self._seen: Tensor  # (M,)
        # of the windows before it
        self._score_sum: Tensor  # (M, K)
        self._num_windows: Tensor  # (M,)
        self._frames_seen: Tensor  # (M,), the window at hand included

    def add(self, frame: TrackFrame, mask_logits: Tensor) -> None:
        """Takes the next frame of the video; call it for frames without tracks, too.

        Args:
            frame: as the tracker returned it.
            mask_logits: (n, H, W), the frame's masks enlarged to the network's input size and cut
                to the image.
        """
        if self._counts is None:
            self._begin(frame.cls_probs)
        self._num_frames += 1
        if len(frame.track_ids) == 0:
            return
        if frame.window != self._window:
            self._end_window()
            self._window = frame.window
        self._grow(int(frame.track_ids.max()) + 1)
        assert self._counts is not None
        ids = frame.track_ids.to(self._counts.device)
        counts = mask_quality_counts(mask_logits, self.high_logit, self.low_logit).to(ids.device)
        self._counts = self._counts.index_add(0, ids, counts)
        self._cls_probs = self._cls_probs.index_copy(0, ids, frame.cls_probs)
        self._seen = self._seen.index_fill(0, ids, 1)
        self._frames_seen = self._frames_seen.index_add(0, ids, (counts[:, 1] > 0).long())

    def scores(self) -> Tensor:
        """Scores of the video so far, (M, K) float32 in [0, 1]; row m belongs to track id m.

        Raises:
            RuntimeError: before the first frame.
        """
        if self._counts is None:
            raise RuntimeError('no scores before the first frame: call add() first')
        score_sum, num_windows = self._totals()
        mean = score_sum / num_windows.clamp(min=1)[:, None]
        factor = presence_factor(self._frames_seen, self._num_frames, self.presence_rate)
        return mean * factor[:, None]

    def _begin(self, like: Tensor) -> None:
        zeros = like.new_zeros(0, dtype=torch.long)
        self._counts = zeros.new_zeros(0, 2)
        self._seen = self._num_windows = self._frames_seen = zeros
        self._cls_probs = self._score_sum = like[:0]

    def _grow(self, num_tracks: int) -> None:
        assert self._counts is not None
        more = num_tracks - len(self._counts)
        if more <= 0:
            return
        self._counts = F.pad(self._counts, (0, 0, 0, more))
        self._cls_probs = F.pad(self._cls_probs, (0, 0, 0, more))
        self._score_sum = F.pad(self._score_sum, (0, 0, 0, more))
        self._seen = F.pad(self._seen, (0, more))
        self._num_windows = F.pad(self._num_windows, (0, more))
        self._frames_seen = F.pad(self._frames_seen, (0, more))

    def _totals(self) -> tuple[Tensor, Tensor]:
        """Sums of scores (M, K) and numbers of windows (M,), the window at hand included."""
        assert self._counts is not None
        quality = mask_quality(self._counts) * self._seen
        score_sum = self._score_sum + self._cls_probs * quality[:, None]
        return score_sum, self._num_windows + self._seen

    def _end_window(self) -> None:
        assert self._counts is not None
        self._score_sum, self._num_windows = self._totals()
        self._counts, self._seen = torch.zeros_like(self._counts), torch.zeros_like(self._seen)
