"""What the overlap tracker remembers of its tracks within a window of frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .overlap_matching import Association


@dataclass(frozen=True)
class Detections:
    """The D instances found in a clip, best first.

    Attributes:
        start: index of the clip's first frame.
        cls_probs: (D, K) float32, class probability times mask quality.
        mask_logits: (D, t, h, w).
        embeds: (D, C) float32.
        scores: (D,) float32, the largest of ``cls_probs``.
    """

    start: int
    cls_probs: Tensor
    mask_logits: Tensor
    embeds: Tensor
    scores: Tensor


class TrackMemory:
    """The tracks of one window.

    What is small and steers decisions lives on the CPU, so that no decision waits for the device:
    ids, counters and flags. Embeddings, class sums and masks live on the device of the input.

    Frames that a later clip may still cover are *live* and held as float32 sums of all tracks seen
    in them; the others are *settled* and held as means, only for the tracks seen in each, in the
    dtype of the input.

    Args:
        start: first frame of the window.
        like: detections whose numbers of classes and channels, mask size and device are taken over.

    Attributes:
        ids: (M,) int64, -1 for tracks that were in no window's output yet.
        embeds: (M, C) float32, memory embeddings.
        unmatched: (M,) int64, number of clips since the last match.
    """

    def __init__(self, start: int, like: Detections) -> None:
        self.start = start
        self.ids = torch.zeros(0, dtype=torch.long)
        self.unmatched = torch.zeros(0, dtype=torch.long)
        self.embeds = like.embeds[:0]
        self._last_embeds = self.embeds  # of the previous clip, where _in_last
        self._in_last = torch.zeros(0, dtype=torch.bool)
        self._cls_sum = like.cls_probs[:0]
        self._cls_count = torch.zeros(0, dtype=torch.long)

        self._dtype = like.mask_logits.dtype
        self._live_start = start
        self._live_rows = torch.zeros(0, dtype=torch.long)  # tracks seen in a live frame, sorted
        self._live_sums = like.mask_logits[:0, :0].float()  # (R, f, h, w)
        self._live_counts = torch.zeros(0, 0, dtype=torch.long)  # (R, f)
        self._settled: list[tuple[Tensor, Tensor]] = []  # rows (n,), mean logits (n, h, w)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_live_frames(self) -> int:
        """Number of frames held as sums."""
        return self._live_sums.shape[1]

    @property
    def cls_probs(self) -> Tensor:
        """(M, K) float32, mean over the clips in which a track was matched, 0 without any."""
        count = self._cls_count.clamp(min=1).to(self._cls_sum)
        return self._cls_sum / count[:, None]

    def settle(self, end: int) -> None:
        """Says that no later clip covers a frame before ``end``."""
        num = min(max(end - self._live_start, 0), self.num_live_frames)
        means = self._live_means()
        for frame in range(num):
            seen = self._live_counts[:, frame] > 0
            rows = torch.nonzero(seen).flatten()
            mean = means[rows.to(means.device), frame].to(self._dtype)
            self._settled.append((self._live_rows[rows], mean))
        self._live_start += num
        self._live_sums = self._live_sums[:, num:]
        self._live_counts = self._live_counts[:, num:]

    def live_masks(self, num_frames: int) -> tuple[Tensor, Tensor]:
        """Mean logits of the first live frames.

        Args:
            num_frames: number of frames of the clip to compare with.

        Returns:
            Tracks that were seen in a live frame, (R,) on the CPU, and their mean mask logits
            (R, f, h, w), f <= ``num_frames``, zero where a track was not seen.
        """
        return self._live_rows, self._live_means()[:, :num_frames]

    def add_clip(self, clip: Detections, association: Association, recency: float) -> None:
        """Writes a clip into the tracks.

        A matched track's memory becomes the weighted mean of its embeddings in the previous clip
        (weight 1) and in this one (weight ``exp(recency)``), or the latter alone where it was not
        matched in the previous clip.

        Args:
            clip: its first frame must be the first live one, see :meth:`settle`.
            association: what continues what.
            recency: see above.
        """
        num_old, num_births = len(self), len(association.births)
        births = num_old + torch.arange(num_births)
        tracks = torch.cat([association.tracks, births])
        dets = torch.cat([association.detections, association.births])
        self._grow(num_births)

        device = clip.embeds.device
        tracks_dev, dets_dev = tracks.to(device), dets.to(device)
        current = clip.embeds[dets_dev]
        blend = (self._last_embeds[tracks_dev] + math.exp(recency) * current) / (
            1 + math.exp(recency)
        )
        has_last = self._in_last[tracks].to(device)
        self.embeds = self.embeds.index_copy(
            0, tracks_dev, torch.where(has_last[:, None], blend, current)
        )
        self._last_embeds = torch.zeros_like(self.embeds).index_copy(0, tracks_dev, current)
        self._in_last = torch.zeros(len(self), dtype=torch.bool).index_fill(0, tracks, True)
        self.unmatched = (self.unmatched + 1).index_fill(0, tracks, 0)
        self._cls_sum = self._cls_sum.index_add(0, tracks_dev, clip.cls_probs[dets_dev])
        self._cls_count = self._cls_count.index_add(0, tracks, torch.ones_like(tracks))
        self._add_masks(tracks, clip.mask_logits[dets_dev])

    def number(self, keep: Tensor, first_id: int) -> int:
        """Gives ids ``first_id``, ... to the kept tracks without one; returns how many."""
        new = keep & (self.ids < 0)
        self.ids = torch.where(new, first_id - 1 + new.cumsum(0), self.ids)
        return int(new.sum())

    def take_settled(self) -> list[tuple[Tensor, Tensor]]:
        """Takes out the settled frames: for each, tracks (n,) and mean mask logits (n, h, w)."""
        settled, self._settled = self._settled, []
        return settled

    def begin_window(self, start: int, keep: Tensor) -> None:
        """Goes on to the next window with some of the tracks.

        What is known of them becomes one pseudo-clip: the mean logits of the live frames, the mean
        class and the memory embedding, each for the tracks that were seen in a live frame; the
        counters run on.

        Args:
            start: first frame of the new window.
            keep: (M,) bool, on the CPU; the order of tracks stays.
        """
        live = self._live_counts.any(1)
        seen = torch.zeros(len(self), dtype=torch.bool)
        seen[self._live_rows[live]] = True
        live &= keep[self._live_rows]
        means = self._live_means()
        self._live_sums = means[live.to(means.device)]
        self._live_counts = (self._live_counts[live] > 0).long()
        self._live_rows = (keep.cumsum(0) - 1)[self._live_rows[live]]

        keep_dev = keep.to(self.embeds.device)
        seen = seen[keep]
        self._cls_sum = self.cls_probs[keep_dev] * seen.to(self._cls_sum)[:, None]
        self._cls_count = seen.long()
        self.embeds = self.embeds[keep_dev]
        self._last_embeds, self._in_last = self.embeds, seen
        self.ids, self.unmatched = self.ids[keep], self.unmatched[keep]
        self.start = start

    def _live_means(self) -> Tensor:
        counts = self._live_counts.clamp(min=1).to(self._live_sums)
        return self._live_sums / counts[..., None, None]

    def _grow(self, num: int) -> None:
        """Adds blank tracks."""

        def pad(x: Tensor, value: int) -> Tensor:
            return torch.cat([x, x.new_full((num, *x.shape[1:]), value)])

        self.ids = pad(self.ids, -1)
        self.unmatched = pad(self.unmatched, 0)
        self.embeds, self._last_embeds = pad(self.embeds, 0), pad(self._last_embeds, 0)
        self._in_last = pad(self._in_last, 0)
        self._cls_sum, self._cls_count = pad(self._cls_sum, 0), pad(self._cls_count, 0)

    def _add_masks(self, tracks: Tensor, mask_logits: Tensor) -> None:
        """Adds a clip's masks (n, t, h, w) of ``tracks`` (n,) to the live frames."""
        still_live = self._live_counts.any(1)
        old_rows = self._live_rows[still_live]
        rows = torch.unique(torch.cat([old_rows, tracks]))
        old_at, new_at = torch.searchsorted(rows, old_rows), torch.searchsorted(rows, tracks)
        length = mask_logits.shape[1]
        num_frames = max(self.num_live_frames, length)

        counts = torch.zeros(len(rows), num_frames, dtype=torch.long)
        counts[old_at, : self.num_live_frames] = self._live_counts[still_live]
        counts[new_at, :length] += 1

        device = mask_logits.device
        old_at, new_at = old_at.to(device), new_at.to(device)
        sums = self._live_sums.new_zeros(len(rows), num_frames, *mask_logits.shape[2:])
        sums[old_at, : self.num_live_frames] = self._live_sums[still_live.to(device)]
        sums[new_at, :length] += mask_logits.to(sums)
        self._live_rows, self._live_counts, self._live_sums = rows, counts, sums
