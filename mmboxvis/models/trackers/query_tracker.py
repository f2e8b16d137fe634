"""Tracking by matching the queries of successive clips."""

from __future__ import annotations

from collections import deque

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from mmboxvis.registry import TASK_UTILS

from .base import NOT_FINITE, BaseTracker
from .scoring import Candidates, select_candidates


def match_queries(memory: Tensor, embeds: Tensor) -> Tensor:
    """Finds for each remembered query the query of a clip that continues it.

    Minimises the sum of ``1 - cosine`` over all one-to-one assignments. The cost matrix goes to
    the CPU in one transfer.

    Args:
        memory: (Q, C) embeddings in the video's query order.
        embeds: (Q, C) embeddings of the clip.

    Returns:
        (Q,) int64 on the device of ``embeds``: the clip's query at each place of the video's order.

    Raises:
        ValueError: if an embedding is not finite.
    """
    memory, embeds = F.normalize(memory.float(), dim=1), F.normalize(embeds.float(), dim=1)
    cost = (1 - memory @ embeds.T).cpu()
    if not torch.isfinite(cost).all():
        raise ValueError(NOT_FINITE)
    _, order = linear_sum_assignment(cost.numpy())
    return torch.from_numpy(order).to(embeds.device)


@TASK_UTILS.register_module()
class QueryTracker(BaseTracker[Tensor]):
    """Query-matching tracker: one track a query, from the first frame to the last.

    The first clip fixes the order of the queries. Each later clip is brought into that order by
    Hungarian matching of its query embeddings with the memory, the mean of the aligned embeddings
    of the last clips (cost ``1 - cosine``). Every query is matched; there are no births and no
    deaths. Class logits are averaged over all clips, mask logits over the clips that cover a
    frame. Source: MinVIS (https://arxiv.org/abs/2208.02245) carried over to clips, as in the
    released program of BoxVIS.

    A frame is returned when no later clip can cover it, as a (Q, h, w) tensor of mean logits. With
    clips of one frame this is MinVIS itself: each update finishes one frame.

    Memory: running sums of at most t frames (Q·h·w float32 each, t the longest clip), the class
    sum and ``memory_clips`` sets of embeddings. Sums are kept in float32 (float64 for float64
    input) on the device of the input; frames are returned in the dtype of the input, scores in the
    dtype of the sums.

    Args:
        memory_clips: number of past clips whose embeddings are averaged.
        score_thr: :meth:`select` keeps every pair of query and class that scores more ...
        min_candidates: ... and at least so many pairs.
        stride: distance between the first frames of successive clips.

    Raises:
        ValueError: if ``memory_clips`` or ``stride`` is not positive; in :meth:`update`, if a class
            logit or an embedding is not finite.

    Example:
        >>> tracker = QueryTracker()
        >>> tracks = []
        >>> for clip in clips:  # of 3 frames each
        ...     tracks += tracker.update(clip.cls_logits, clip.mask_logits, clip.embeds)
        >>> tracks += tracker.finish()
        >>> torch.stack(tracks, 1).shape  # (Q, V, h, w)
    """

    def __init__(
        self,
        *,
        memory_clips: int = 2,
        score_thr: float = 0.05,
        min_candidates: int = 10,
        stride: int = 1,
    ) -> None:
        if memory_clips < 1:
            raise ValueError(f'memory_clips must be at least 1, got {memory_clips}')
        self.memory_clips = memory_clips
        self.score_thr = score_thr
        self.min_candidates = min_candidates
        super().__init__(stride=stride)

    def reset(self) -> None:
        """Forgets the video, so that another one may begin."""
        super().reset()
        self._memory: deque[Tensor] = deque(maxlen=self.memory_clips)
        self._cls_sum: Tensor | None = None
        self._sums: deque[Tensor] = deque()  # of frames first_live, first_live + 1, ...
        self._counts: deque[int] = deque()
        self._first_live = 0
        self._dtype = torch.float32

    @property
    def num_live_frames(self) -> int:
        """Number of frames whose sums are held, at most the length of the longest clip."""
        return len(self._sums)

    def scores(self) -> Tensor:
        """Softmax of the mean class logits over clips, without *no object*: (Q, K)."""
        if self._cls_sum is None:
            raise RuntimeError('no scores before the first clip: call update() first')
        return (self._cls_sum / self._num_clips).softmax(-1)[:, :-1]

    def select(self, scores: Tensor) -> Candidates:
        """The best pairs of query and class, see :func:`~.scoring.select_candidates`."""
        return select_candidates(scores, self.score_thr, self.min_candidates)

    def unpack(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """The frame itself and the ids 0..Q-1."""
        return frame, torch.arange(len(frame))

    def _track_clip(
        self, start: int, cls_logits: Tensor, mask_logits: Tensor, embeds: Tensor
    ) -> list[Tensor]:
        if not torch.isfinite(cls_logits).all():  # they would pass as scores that are not a number
            raise ValueError(f'clip {self._num_clips}: cls_logits or {NOT_FINITE}')
        order = self._match(embeds)
        # indexing copies, so that nothing of the caller's is kept
        self._memory.append(_widen(embeds[order]))
        cls_logits = _widen(cls_logits[order])
        self._dtype = mask_logits.dtype
        self._cls_sum = cls_logits if self._cls_sum is None else self._cls_sum + cls_logits

        # frames before this clip are settled, and so is its first: the next clip begins later
        frames = self._pop_until(start)
        self._add_frames(mask_logits[order])
        return frames + self._pop_until(start + 1)

    def _flush(self) -> list[Tensor]:
        return self._pop_until(self._num_frames)

    def _match(self, embeds: Tensor) -> Tensor:
        """(Q,) int64: the clip's queries in the order of the video."""
        if not self._memory:  # an unmatched first clip with broken embeddings must not pass
            if not torch.isfinite(embeds).all():
                raise ValueError(f'clip {self._num_clips}: {NOT_FINITE}')
            return torch.arange(len(embeds), device=embeds.device)
        try:
            return match_queries(torch.stack(tuple(self._memory)).mean(0), embeds)
        except ValueError as error:
            raise ValueError(f'clip {self._num_clips}: {error}') from error

    def _add_frames(self, mask_logits: Tensor) -> None:
        """Adds a clip that begins at the first live frame."""
        for offset, frame in enumerate(_widen(mask_logits).unbind(1)):
            if offset < len(self._sums):
                self._sums[offset] = self._sums[offset] + frame
                self._counts[offset] += 1
            else:
                self._sums.append(frame.clone())  # a view would keep the whole clip alive
                self._counts.append(1)

    def _pop_until(self, end: int) -> list[Tensor]:
        """Takes out the means of all live frames before ``end``."""
        frames = []
        while self._sums and self._first_live < end:
            mean = self._sums.popleft() / self._counts.popleft()
            frames.append(mean.to(self._dtype))
            self._first_live += 1
        return frames


def _widen(x: Tensor) -> Tensor:
    """Casts half precision to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
