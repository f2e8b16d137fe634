"""Tracking by the overlap of successive clips, in windows of frames."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mmboxvis.registry import TASK_UTILS

from .base import NOT_FINITE, BaseTracker, TrackFrame
from .overlap_matching import (
    Association,
    associate,
    embedding_scores,
    hard_iou,
    keep_best,
    soft_hard_iou,
)
from .scoring import Candidates, mask_quality, mask_quality_counts, select_classes
from .track_memory import Detections, TrackMemory


@TASK_UTILS.register_module()
class OverlapTracker(BaseTracker[TrackFrame]):
    """Overlap tracker: tracks come and go, matched by embeddings and masks.

    Each clip's queries are thinned out to detections: class score times mask quality above
    ``cls_thr``, then suppression of whatever resembles a better one in mask or embedding. The
    detections are matched to the tracks by bi-softmax of embeddings plus mask IoU on the frames
    both have seen; those left over start tracks unless they are duplicates. Mask logits are
    averaged over the clips that saw a track in a frame, class scores over the clips of a window.
    At the end of each window its frames leave, and tracks are carried into the next. Source: the
    tracker of MDQE (https://arxiv.org/abs/2303.14395) as the released program of BoxVIS uses it for
    Swin-L on OVIS and BVISD.

    A window ends when a clip comes that begins behind it, or with the video. Its frames are
    :class:`TrackFrame` and come all at once, since which tracks stay and what class they have is
    known only then. Scores that need enlarged masks: :class:`~.scoring.WindowScores`.

    Memory: float32 sums of t frames for the tracks seen in them, and mean logits (dtype of the
    input) of ``window`` frames for the tracks seen in each. A track that is lost leaves its
    embedding and its class scores only.

    Args:
        window: number of frames of a window.
        cls_thr: detections must score more; a track that scores more outlives its window.
        birth_thr: a detection must score more to start a track beside others.
        nms_mask_thr: least soft-hard IoU with a better detection at which one is dropped.
        nms_embed_thr: least cosine with a better detection at which one is dropped.
        match_thr: sum of embedding score and mask IoU that a match must exceed.
        duplicate_embed_thr: a duplicate's embedding score with a track exceeds it ...
        duplicate_mask_thr: ... and its mask IoU with a track exceeds this.
        max_unmatched_clips: a track unmatched for so many clips is no longer matched by its
            embedding (released program: 30 for YouTube-VIS, 10 otherwise).
        recency: weight of the newest embedding in the memory is ``exp(recency)``, of the one before
            it 1.
        halve_from: masks are compared at half the size from so many tracks or detections on.
        class_filter_all: :meth:`select` keeps every class of every track, as the released program
            does; otherwise those that score more than ``cls_thr``.
        lose_last_frame: the fault of the released program, which ends the video one clip early: the
            last clip has no effect, and the frames that only it covers are empty.
        stride: distance between the first frames of successive clips.

    Raises:
        ValueError: if ``window``, ``max_unmatched_clips`` or ``stride`` is not positive.
    """

    def __init__(
        self,
        *,
        window: int = 30,
        cls_thr: float = 0.05,
        birth_thr: float = 0.1,
        nms_mask_thr: float = 0.75,
        nms_embed_thr: float = 0.85,
        match_thr: float = 0.8,
        duplicate_embed_thr: float = 0.75,
        duplicate_mask_thr: float = 0.4,
        max_unmatched_clips: int = 10,
        recency: float = 0.25,
        halve_from: int = 20,
        class_filter_all: bool = True,
        lose_last_frame: bool = False,
        stride: int = 1,
    ) -> None:
        if window < 1 or max_unmatched_clips < 1:
            raise ValueError(
                'window and max_unmatched_clips must be at least 1, got '
                f'{window} and {max_unmatched_clips}'
            )
        self.window = window
        self.cls_thr = cls_thr
        self.birth_thr = birth_thr
        self.nms_mask_thr = nms_mask_thr
        self.nms_embed_thr = nms_embed_thr
        self.match_thr = match_thr
        self.duplicate_embed_thr = duplicate_embed_thr
        self.duplicate_mask_thr = duplicate_mask_thr
        self.max_unmatched_clips = max_unmatched_clips
        self.recency = recency
        self.halve_from = halve_from
        self.class_filter_all = class_filter_all
        self.lose_last_frame = lose_last_frame
        super().__init__(stride=stride)

    def reset(self) -> None:
        """Forgets the video, so that another one may begin."""
        super().reset()
        self._memory: TrackMemory | None = None
        self._pending: Detections | None = None
        self._window_index = 0
        self._num_returned = 0
        self._empty_frame: TrackFrame | None = None
        # of the tracks put out so far: sum of class scores over windows, number of windows
        self._cls_sum = torch.zeros(0)
        self._num_windows = torch.zeros(0, dtype=torch.long)

    def scores(self) -> Tensor:
        """Mean class scores over the windows a track was seen in: (M, K).

        M is the number of tracks put out so far, so ask after :meth:`finish`.
        """
        if self._empty_frame is None:
            raise RuntimeError('no scores before the first clip: call update() first')
        return self._cls_sum / self._num_windows.clamp(min=1).to(self._cls_sum)[:, None]

    def select(self, scores: Tensor) -> Candidates:
        """Takes every class of every track, or those above ``cls_thr``, best first."""
        return select_classes(scores, None if self.class_filter_all else self.cls_thr)

    def unpack(self, frame: TrackFrame) -> tuple[Tensor, Tensor]:
        """Mask logits (n, h, w) and track ids (n,) of the tracks seen in the frame."""
        return frame.mask_logits, frame.track_ids

    def detect(
        self, start: int, cls_logits: Tensor, mask_logits: Tensor, embeds: Tensor
    ) -> Detections:
        """Thins the queries of a clip out to detections.

        Args:
            start: index of the clip's first frame.
            cls_logits: (Q, K+1).
            mask_logits: (Q, t, h, w).
            embeds: (Q, C).

        Returns:
            The detections, best first; at least one if Q > 0.

        Raises:
            ValueError: if a class logit or an embedding is not finite.
        """
        if not (torch.isfinite(cls_logits).all() & torch.isfinite(embeds).all()):
            raise ValueError(f'clip {self._num_clips}: cls_logits or {NOT_FINITE}')
        quality = mask_quality(mask_quality_counts(mask_logits).sum(1))
        probs = cls_logits.float().softmax(-1)[:, :-1] * quality[:, None]
        scores, order = probs.amax(1).sort(descending=True, stable=True)
        good = scores > self.cls_thr
        good[:1] = True
        order = order[good]
        order = order[keep_best(soft_hard_iou(mask_logits[order]), self.nms_mask_thr)]
        directions = F.normalize(embeds[order].float(), dim=1)
        order = order[keep_best(directions @ directions.T, self.nms_embed_thr)]
        return Detections(
            start, probs[order], mask_logits[order], embeds[order].float(), probs[order].amax(1)
        )

    def _track_clip(
        self, start: int, cls_logits: Tensor, mask_logits: Tensor, embeds: Tensor
    ) -> list[TrackFrame]:
        clip = self.detect(start, cls_logits, mask_logits, embeds)
        if self._empty_frame is None:
            self._cls_sum = clip.cls_probs.new_zeros(0, clip.cls_probs.shape[1])
            self._empty_frame = TrackFrame(
                mask_logits=mask_logits.new_zeros(0, *mask_logits.shape[2:]),
                track_ids=torch.zeros(0, dtype=torch.long),
                cls_probs=self._cls_sum,
                window=-1,
            )
        if self.lose_last_frame:  # the newest clip waits, since it may be the last
            waiting, self._pending = self._pending, clip
            return [] if waiting is None else self._add_clip(waiting)
        return self._add_clip(clip)

    def _add_clip(self, clip: Detections) -> list[TrackFrame]:
        if self._memory is None:
            self._memory = TrackMemory(clip.start, clip)
        memory, frames = self._memory, []
        while clip.start >= memory.start + self.window:
            frames += self._close_window(memory)
        memory.settle(clip.start)
        memory.add_clip(clip, self._associate(memory, clip), self.recency)
        return frames

    def _associate(self, memory: TrackMemory, clip: Detections) -> Association:
        embed_scores = embedding_scores(memory.embeds, clip.embeds)
        lost = (memory.unmatched >= self.max_unmatched_clips).to(embed_scores.device)
        embed_scores = embed_scores.masked_fill(lost[:, None], 0)

        rows, saved = memory.live_masks(clip.mask_logits.shape[1])
        halve = max(len(memory), len(clip.scores)) >= self.halve_from
        iou = hard_iou(saved, clip.mask_logits[:, : saved.shape[1]], halve=halve)
        mask_scores = torch.zeros_like(embed_scores).index_copy(0, rows.to(iou.device), iou)
        return associate(
            embed_scores,
            mask_scores,
            clip.scores,
            match_thr=self.match_thr,
            birth_thr=self.birth_thr,
            duplicate_embed_thr=self.duplicate_embed_thr,
            duplicate_mask_thr=self.duplicate_mask_thr,
        )

    def _flush(self) -> list[TrackFrame]:
        if self._empty_frame is None:
            return []
        self._pending = None
        frames = [] if self._memory is None else self._close_window(self._memory, last=True)
        return frames + [self._empty_frame] * (self._num_frames - self._num_returned)

    def _close_window(self, memory: TrackMemory, *, last: bool = False) -> list[TrackFrame]:
        """Puts out the frames of a window and carries the tracks on."""
        end = self._num_frames if last else memory.start + self.window
        memory.settle(end)
        probs = memory.cls_probs
        keep = torch.ones(len(memory), dtype=torch.bool)
        if not last:
            good = (probs.amax(1) > self.cls_thr).cpu()
            keep = good | (memory.unmatched < self.max_unmatched_clips) | (memory.ids >= 0)
        num_new = memory.number(keep, len(self._num_windows))

        frames, seen = [], torch.zeros(len(memory), dtype=torch.bool)
        for rows, masks in memory.take_settled():
            kept = keep[rows]
            if not kept.all():
                rows, masks = rows[kept], masks[kept.to(masks.device)]
            seen[rows] = True
            frames.append(
                TrackFrame(
                    masks, memory.ids[rows], probs[rows.to(probs.device)], self._window_index
                )
            )
        self._add_scores(memory.ids[seen], probs[seen.to(probs.device)], num_new)
        memory.begin_window(end, keep)
        self._window_index += 1
        self._num_returned += len(frames)
        return frames

    def _add_scores(self, ids: Tensor, probs: Tensor, num_new: int) -> None:
        """Counts one more window for tracks ``ids`` (n,) with class scores ``probs`` (n, K)."""
        cls_sum = torch.cat([self._cls_sum, probs.new_zeros(num_new, probs.shape[1])])
        self._cls_sum = cls_sum.index_add(0, ids.to(probs.device), probs)
        windows = torch.cat([self._num_windows, torch.zeros(num_new, dtype=torch.long)])
        self._num_windows = windows.index_add(0, ids, torch.ones_like(ids))
