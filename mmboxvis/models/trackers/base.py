"""What every tracker looks like to the one that drives it.

Shape shorthand of this folder: Q queries, K classes (the last class logit is *no object*),
t frames of a clip, V frames of a video, C channels, M tracks, mask logits at stride 4 (h, w).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from .scoring import Candidates

FrameT = TypeVar('FrameT')

NOT_FINITE = (
    'embeds has values that are not finite; the network overflowed in half precision or its '
    'weights are broken'
)


@dataclass(frozen=True)
class TrackFrame:
    """One finished frame: the n tracks that were seen in it.

    Tracks that are not listed have no mask in this frame.

    Attributes:
        mask_logits: (n, h, w), mean over the clips that saw the track here.
        track_ids: (n,) int64 on the CPU; ids count from 0 over the whole video.
        cls_probs: (n, K) float32 in [0, 1], the tracks' mean class scores in this window.
        window: index of the window of frames this frame belongs to.
    """

    mask_logits: Tensor
    track_ids: Tensor
    cls_probs: Tensor
    window: int


class BaseTracker(ABC, Generic[FrameT]):
    """Clips in, finished frames out.

    A tracker is a stream: it takes the predictions of overlapping clips in temporal order and
    hands out each frame once, in order, as soon as its value is settled. It keeps no more than the
    frames that are not settled yet, so memory does not grow with the length of the video. It
    knows no model and holds no parameters, and it takes no part in gradients.

    Every tracker is driven the same way::

        tracker.reset()
        for cls_logits, mask_logits, embeds in clips:
            for frame in tracker.update(cls_logits, mask_logits, embeds):
                mask_logits, track_ids = tracker.unpack(frame)
                ...
        for frame in tracker.finish():
            ...
        scores = tracker.scores()  # (M, K), row m belongs to track id m

    What ``frame`` is depends on the tracker (``FrameT``): a plain (Q, h, w) tensor where tracks
    are the queries and never change, a :class:`TrackFrame` where tracks come and
    go. :meth:`unpack` reads either.

    Args:
        stride: distance between the first frames of successive clips.

    Raises:
        ValueError: if ``stride`` is not positive.
    """

    def __init__(self, *, stride: int = 1) -> None:
        if stride < 1:
            raise ValueError(f'stride must be at least 1, got {stride}')
        self.stride = stride
        self.reset()

    def reset(self) -> None:
        """Forgets the video, so that another one may begin."""
        self._start = -1
        self._num_frames = 0
        self._num_clips = 0
        self._finished = False
        self._sizes: tuple[int, ...] = ()

    @property
    def num_frames(self) -> int:
        """Number of frames of the video seen so far."""
        return self._num_frames

    @torch.no_grad()
    def update(
        self,
        cls_logits: Tensor,
        mask_logits: Tensor,
        embeds: Tensor,
        *,
        start: int | None = None,
    ) -> list[FrameT]:
        """Takes the next clip.

        Args:
            cls_logits: (Q, K+1), one class for the whole clip.
            mask_logits: (Q, t, h, w); t may be any number of frames, 1 included.
            embeds: (Q, C), query embeddings as the network gives them. Trackers compare or average
                them as they are, so that their lengths count, too.
            start: index of the clip's first frame. By default the previous start plus ``stride``
                (0 for the first clip). The last clip of a video whose length does not fit the
                stride gives it, so that the clip ends with the video.

        Returns:
            The frames that are settled by this clip, in order; may be empty.

        Raises:
            RuntimeError: after :meth:`finish`, unless :meth:`reset` came between.
            ValueError: if shapes do not fit together or change within a video, or if ``start`` does
                not lie behind the previous start, or would leave a gap behind the frames seen.
        """
        if self._finished:
            raise RuntimeError(
                'this tracker has finished its video: call reset() before the first clip of the '
                'next one'
            )
        self._check_shapes(cls_logits, mask_logits, embeds)
        start = self._check_start(start)
        with torch.autocast(mask_logits.device.type, enabled=False):  # sums and costs in float32
            frames = self._track_clip(start, cls_logits, mask_logits, embeds)
        self._start = start
        self._num_frames = max(self._num_frames, start + mask_logits.shape[1])
        self._num_clips += 1
        self._sizes = (*cls_logits.shape, *mask_logits.shape[2:], embeds.shape[1])
        return frames

    @torch.no_grad()
    def finish(self) -> list[FrameT]:
        """Ends the video and returns the frames not returned yet; nothing if called again."""
        if self._finished:
            return []
        self._finished = True
        return self._flush()

    @abstractmethod
    def scores(self) -> Tensor:
        """Class scores of all tracks, (M, K) float32 in [0, 1]; row m belongs to track id m.

        They hold what the classifier says. Factors that need the masks at full size are left to
        whoever enlarges the masks; see :mod:`~.scoring`.

        Raises:
            RuntimeError: before the first clip.
        """

    @abstractmethod
    def select(self, scores: Tensor) -> Candidates:
        """Which pairs of track and class are worth writing out, best first.

        Args:
            scores: (M, K), as :meth:`scores` gives them or with further factors.
        """

    @abstractmethod
    def unpack(self, frame: FrameT) -> tuple[Tensor, Tensor]:
        """Mask logits (M, h, w) and the track id of each row, (M,) int64 on the CPU."""

    @abstractmethod
    def _track_clip(
        self, start: int, cls_logits: Tensor, mask_logits: Tensor, embeds: Tensor
    ) -> list[FrameT]:
        """The method's part of :meth:`update`: inputs are checked, autocast is off."""

    @abstractmethod
    def _flush(self) -> list[FrameT]:
        """The method's part of :meth:`finish`."""

    def _check_start(self, start: int | None) -> int:
        if start is None:
            start = 0 if self._num_clips == 0 else self._start + self.stride
        if start <= self._start:
            raise ValueError(
                f'clip {self._num_clips} starts at frame {start}, but the clip before it at frame '
                f'{self._start}: clips must come in temporal order, each with a later start'
            )
        if start > self._num_frames:
            raise ValueError(
                f'clip {self._num_clips} starts at frame {start}, but only frames up to '
                f'{self._num_frames - 1} were seen: the frames between would be in no clip; use a '
                f'smaller stride (now {self.stride}) or longer clips'
            )
        return start

    def _check_shapes(self, cls_logits: Tensor, mask_logits: Tensor, embeds: Tensor) -> None:
        wanted = 'cls_logits (Q, K+1), mask_logits (Q, t, h, w), embeds (Q, C)'
        shapes = [tuple(x.shape) for x in (cls_logits, mask_logits, embeds)]
        where = f'clip {self._num_clips}'
        if [len(shape) for shape in shapes] != [2, 4, 2]:
            raise ValueError(f'{where}: expected {wanted}, got shapes {shapes}')
        if len({shape[0] for shape in shapes}) != 1:
            raise ValueError(f'{where}: numbers of queries differ: {wanted}, got shapes {shapes}')
        if shapes[1][1] == 0:
            raise ValueError(f'{where}: mask_logits has no frame: {wanted}, got shapes {shapes}')
        sizes = (*shapes[0], *shapes[1][2:], shapes[2][1])
        if self._sizes and sizes != self._sizes:
            raise ValueError(
                f'{where}: (Q, K+1, h, w, C) changed from {self._sizes} to {sizes} within a video; '
                'call finish() and reset() between videos'
            )
