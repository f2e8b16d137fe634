"""Near-online inference: a stream of frames in, scored tracks out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as mask_utils
from torch import Tensor

from mmboxvis.models.trackers import (
    BaseTracker,
    Candidates,
    OverlapTracker,
    WindowScores,
    mask_quality,
    mask_quality_counts,
)
from mmboxvis.registry import TASK_UTILS
from mmboxvis.structures import FrameFeatures, VideoPrediction
from mmboxvis.structures.video_prediction import RLE

if TYPE_CHECKING:
    from .base import BaseVIS

# masks enlarged at a time are kept below this many pixels, 256 MB of float32
_MAX_PIXELS = 2**26


@dataclass(frozen=True)
class TrackedFrame:
    """A frame that no later clip can change.

    Attributes:
        index: in the video, from 0.
        size: (h, w) of the frame as the network got it, before padding.
        mask_logits: (M, h / 4, w / 4) of the padded frame.
        track_ids: (M,) int64.
        tracked: what the tracker returned.
    """

    index: int
    size: tuple[int, int]
    mask_logits: Tensor
    track_ids: Tensor
    tracked: Any


@dataclass
class _TrackMasks:
    """Encoded masks and pixel counts of the tracks of one video; grows with the RLEs only.

    Attributes:
        segmentations: RLEs by track id and frame.
        counts: (2,) sums of :func:`mask_quality_counts` by track id.
        windows: scores of a tracker whose tracks come and go, ``None`` for the others.
    """

    segmentations: dict[int, dict[int, RLE]] = field(default_factory=dict)
    counts: dict[int, Tensor] = field(default_factory=dict)
    windows: WindowScores | None = None

    def add(self, frame: int, track_ids: list[int], rles: list[RLE], counts: Tensor) -> None:
        for track_id, rle, count in zip(track_ids, rles, counts, strict=True):
            self.segmentations.setdefault(track_id, {})[frame] = rle
            self.counts[track_id] = self.counts.get(track_id, 0) + count

    def candidates(self, tracker: BaseTracker) -> Candidates:
        """What to report: class scores times mask quality, best first."""
        if self.windows is not None:
            return tracker.select(self.windows.scores().cpu())
        found = tracker.select(tracker.scores().cpu())
        none = torch.zeros(2, dtype=torch.long)
        counts = [self.counts.get(i, none) for i in found.query_inds.tolist()]
        scores = found.scores.double() * mask_quality(torch.stack([*counts, none])[:-1]).double()
        order = scores.argsort(descending=True, stable=True)
        return Candidates(found.query_inds[order], found.labels[order], scores[order])


def encode_masks(masks: Tensor) -> list[RLE]:
    """(M, H, W) bool to compressed COCO run-lengths with ``str`` counts."""
    columns_first = np.asfortranarray(masks.permute(1, 2, 0).byte().cpu().numpy())
    return [
        dict(size=[int(side) for side in rle['size']], counts=rle['counts'].decode())
        for rle in mask_utils.encode(columns_first)
    ]


class VideoPredictor:
    """Runs a model over a video of any length in bounded memory (paper section 3.3, inference).

    Every frame passes backbone and pixel decoder once; a ring keeps the features of the frames
    that later clips need. The query decoder runs once a clip, the tracker joins the clips, and
    finished frames wait in a buffer at stride 4 until they are enlarged and encoded.

    Which queries are worth encoding is known for sure only when the video ends. A video of up to
    ``buffer_frames`` frames is therefore encoded at the end, exactly; in a longer one each full
    buffer is encoded for all queries that so far score at least ``prune_score`` in any class, or
    are among the ``prune_best`` best. ``prune_score=0`` encodes them all, as is always done for a
    tracker that chooses its tracks itself.

    Args:
        model: gives the network (``student``) and the preprocessor.
        tracker: config of a tracker.
        clip_length: T, frames a clip; 1 is MinVIS.
        clip_stride: distance between the first frames of two clips, at most T.
        buffer_frames: finished frames kept before they are encoded, Q*h*w floats each.
        prune_score: see above.
        prune_best: see above.
    """

    def __init__(
        self,
        model: BaseVIS,
        *,
        tracker: dict | None = None,
        clip_length: int = 3,
        clip_stride: int = 1,
        buffer_frames: int = 40,
        prune_score: float = 0.01,
        prune_best: int = 20,
    ) -> None:
        if not 1 <= clip_stride <= clip_length:
            raise ValueError(
                f'clip_stride must lie in 1..clip_length={clip_length}, got {clip_stride}: '
                'a larger one leaves frames without a clip'
            )
        self.model = model
        self.clip_length = clip_length
        self.clip_stride = clip_stride
        self.buffer_frames = buffer_frames
        self.prune_score = prune_score
        self.prune_best = prune_best
        self.tracker: BaseTracker = TASK_UTILS.build(
            dict(tracker or dict(type='QueryTracker')), default_args=dict(stride=clip_stride)
        )

    @torch.no_grad()
    def __call__(
        self, frames: Iterable[np.ndarray], *, video_id: int = 1, ori_shape: tuple[int, int]
    ) -> VideoPrediction:
        """Predicts one video.

        Args:
            frames: (h, w, 3) uint8 as decoded and resized for the network, all of one size; read
                once, in order.
            video_id: goes into the result.
            ori_shape: (H0, W0), the size of the masks in the result.

        Returns:
            The tracks with scores of classification times mask quality.
        """
        by_window = isinstance(self.tracker, OverlapTracker)
        masks = _TrackMasks(windows=WindowScores() if by_window else None)
        buffer: deque[TrackedFrame] = deque()
        num_frames, flushed = 0, False
        for frame in self.stream(frames):
            buffer.append(frame)
            num_frames += 1
            if len(buffer) > self.buffer_frames:
                self._encode(buffer, self._promising(), ori_shape, masks)
                flushed = True
        if num_frames:
            self._encode(
                buffer, self._promising() if flushed else self._reported(), ori_shape, masks
            )
        return self._to_prediction(video_id, ori_shape, num_frames, masks)

    @torch.no_grad()
    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[TrackedFrame]:
        """Yields each frame of a video, in order, as soon as no later clip can change it.

        Args:
            frames: as in :meth:`__call__`; may be endless.

        Raises:
            ValueError: where a frame's size differs from the first one's.
        """
        finished = 0
        for mask_frames, size, num_frames in self._run_clips(frames):
            # frames past the end repeat the last one of a video shorter than a clip
            for tracked in mask_frames[: num_frames - finished]:
                yield TrackedFrame(finished, size, *self.tracker.unpack(tracked), tracked)
                finished += 1

    def _run_clips(
        self, frames: Iterable[np.ndarray]
    ) -> Iterator[tuple[list[Any], tuple[int, int], int]]:
        """Yields after each clip what the tracker finished, the frame size, the frames seen."""
        self.tracker.reset()
        ring: deque[FrameFeatures] = deque(maxlen=self.clip_length)
        seen, next_start, size = 0, 0, (0, 0)
        for image in frames:
            if seen and size != tuple(image.shape[:2]):
                raise ValueError(
                    f'frame {seen} has {image.shape[1]}x{image.shape[0]} pixels, the frames before '
                    f'{size[1]}x{size[0]}: all frames of a video must have one size'
                )
            size = (image.shape[0], image.shape[1])
            ring.append(self._encode_frame(image))
            seen += 1
            if seen == next_start + self.clip_length:
                yield self._run_clip(ring, next_start), size, seen
                next_start += self.clip_stride
        if not seen:
            return
        covered = next_start - self.clip_stride + self.clip_length if next_start else 0
        if covered < seen:
            ring.extend([ring[-1]] * (self.clip_length - len(ring)))
            yield self._run_clip(ring, max(seen - self.clip_length, 0)), size, seen
        yield self.tracker.finish(), size, seen

    def _encode_frame(self, image: np.ndarray) -> FrameFeatures:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return self.model.student.encode_frames(self.model.data_preprocessor.frame(pixels))

    def _run_clip(self, ring: Iterable[FrameFeatures], start: int) -> list:
        features = FrameFeatures.cat(list(ring))
        prediction = self.model.student.track_head(features, len(features), last_only=True)[-1]
        clip = prediction.clip(0)
        return self.tracker.update(clip.cls_logits, clip.mask_logits, clip.embeds, start=start)

    def _reported(self) -> set[int]:
        """Tracks that would be reported if the video ended here."""
        return set(self.tracker.select(self.tracker.scores()).query_inds.tolist())

    def _promising(self) -> set[int]:
        """Tracks that may be reported when the video ends."""
        best = self.tracker.scores().amax(1)
        top = best.topk(min(self.prune_best, len(best))).indices.tolist()
        return {*top, *(best >= self.prune_score).nonzero().flatten().tolist()}

    def _encode(
        self,
        buffer: deque[TrackedFrame],
        keep: set[int],
        ori_shape: tuple[int, int],
        masks: _TrackMasks,
    ) -> None:
        """Enlarges, counts and encodes the kept tracks of all buffered frames; empties it."""
        while buffer:
            frame = buffer.popleft()
            if masks.windows is not None:
                rows = list(range(len(frame.track_ids)))
                masks.windows.add(frame.tracked, self.enlarge(frame.mask_logits, frame.size))
            else:
                # bilinear resizing raises no maximum: below -1 nothing is counted, nothing drawn
                visible = (frame.mask_logits.amax((-2, -1)) > -1).tolist()
                ids = frame.track_ids.tolist()
                rows = [row for row, track in enumerate(ids) if visible[row] and track in keep]
            step = max(1, _MAX_PIXELS // (ori_shape[0] * ori_shape[1]))
            for begin in range(0, len(rows), step):
                self._encode_rows(frame, rows[begin : begin + step], ori_shape, masks)

    def _encode_rows(
        self, frame: TrackedFrame, rows: list[int], ori_shape: tuple[int, int], masks: _TrackMasks
    ) -> None:
        enlarged = self.enlarge(frame.mask_logits[rows], frame.size)
        final = F.interpolate(enlarged[None], ori_shape, mode='bilinear', align_corners=False)[0]
        masks.add(
            frame.index,
            frame.track_ids[rows].tolist(),
            encode_masks(final > 0),
            mask_quality_counts(enlarged).cpu(),
        )

    def enlarge(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """(M, h, w) logits to the network's input size, cut to the un-padded frame."""
        padded = self.model.data_preprocessor.padded_size(*size)
        full = F.interpolate(logits[None].float(), padded, mode='bilinear', align_corners=False)
        return full[0, :, : size[0], : size[1]]

    def _to_prediction(
        self, video_id: int, ori_shape: tuple[int, int], num_frames: int, masks: _TrackMasks
    ) -> VideoPrediction:
        none = torch.zeros(0, dtype=torch.long)
        found = masks.candidates(self.tracker) if num_frames else Candidates(none, none, none)
        segmentations = [
            [self._drawn(masks.segmentations.get(i, {}).get(t)) for t in range(num_frames)]
            for i in found.query_inds.tolist()
        ]
        return VideoPrediction(
            video_id=video_id,
            size=ori_shape,
            num_frames=num_frames,
            labels=found.labels.numpy(),
            scores=found.scores.double().numpy(),
            track_ids=found.query_inds.numpy(),
            segmentations=segmentations,
        )

    @staticmethod
    def _drawn(rle: RLE | None) -> RLE | None:
        return rle if rle is not None and mask_utils.area(rle) else None
