"""Near-online inference: a stream of frames in, scored tracks out."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as mask_utils
from torch import Tensor

from mmboxvis.models.trackers import BaseTracker, Candidates, TrackFrame, mask_quality_counts
from mmboxvis.registry import TASK_UTILS
from mmboxvis.structures import ClipPredictions, DecoderInputs, VideoPrediction
from mmboxvis.structures.video_prediction import RLE

from .track_masks import TrackMasks, encode_masks

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
        tracked: what the tracker returned; ``None`` in a frame that was set aside.
    """

    index: int
    size: tuple[int, int]
    mask_logits: Tensor
    track_ids: Tensor
    tracked: Tensor | TrackFrame | None


@dataclass(frozen=True)
class StreamPosition:
    """Where a video stands between two clips.

    Attributes:
        seen: number of frames read.
        next_start: first frame of the next clip.
        finished: number of frames handed out.
        size: (h, w) of the frames.
    """

    seen: int = 0
    next_start: int = 0
    finished: int = 0
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class PredictedClip:
    """What the network says of one clip.

    Attributes:
        start: first frame of the clip.
        prediction: of the last decoder layer. Frames past the end of a video shorter than a clip
            repeat its last one.
        position: where the video stands after the clip; ``finished`` as before it.
    """

    start: int
    prediction: ClipPredictions
    position: StreamPosition


class VideoPredictor:
    """Runs a model over a video of any length in bounded memory (paper section 3.3, inference).

    Every frame passes backbone and pixel decoder once; a ring keeps what the query decoder reads
    of the frames that later clips need. The query decoder runs once a clip, the tracker joins the
    clips, and finished frames wait in a buffer at stride 4 until they are enlarged and encoded.

    Which queries are worth encoding is known for sure only when the video ends. A video of up to
    ``exact_frames`` frames is therefore encoded at the end, exactly; in a longer one each full
    buffer is encoded for all queries that so far score at least ``prune_score`` in any class, or
    are among the ``prune_best`` best. A query that rises later has no masks in what is encoded
    already; what is left when the video ends is encoded for all that are reported.
    ``prune_score=0`` encodes them all. A tracker that chooses its tracks itself, as
    :class:`OverlapTracker` does, waits for nothing: each frame is encoded at once.

    Args:
        model: gives the network (``student``) and the preprocessor.
        tracker: config of a tracker.
        clip_length: T, frames a clip; 1 is MinVIS.
        clip_stride: distance between the first frames of two clips, at most T.
        buffer_frames: finished frames kept before they are encoded, where a video is streamed or
            longer than ``exact_frames``.
        exact_frames: finished frames of a whole video that are kept until its end, in the host's
            memory, at most Q*h*w floats each: 6 MB with 100 queries at 360x640.
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
        exact_frames: int = 300,
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
        self.exact_frames = exact_frames
        self.prune_score = prune_score
        self.prune_best = prune_best
        # the caller may have set another default scope, as mmdet's own programs do
        self.tracker: BaseTracker = TASK_UTILS.build(
            {'_scope_': 'mmboxvis', **(tracker or dict(type='QueryTracker'))},
            default_args=dict(stride=clip_stride),
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
        masks = TrackMasks.of(self.tracker)
        buffer: deque[TrackedFrame] = deque()
        num_frames, limit = 0, self.exact_frames
        for frame in self.stream(frames):
            num_frames += 1
            if masks.windows is not None:
                self.encode_frame(frame, ori_shape, masks, ())
                continue
            buffer.append(_shelved(frame))
            if len(buffer) > limit:
                self._encode(buffer, self._promising(), ori_shape, masks)
                limit = self.buffer_frames
        if buffer:
            self._encode(buffer, self._reported(), ori_shape, masks)
        return self._to_prediction(video_id, ori_shape, num_frames, masks)

    @torch.no_grad()
    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[TrackedFrame]:
        """Yields each frame of a video, in order, as soon as no later clip can change it.

        Args:
            frames: as in :meth:`__call__`; may be endless.

        Raises:
            ValueError: where a frame's size differs from the first one's.
        """
        for tracked_frames, _ in self.stream_clips(frames):
            yield from tracked_frames

    @torch.no_grad()
    def stream_clips(
        self, frames: Iterable[np.ndarray], position: StreamPosition | None = None
    ) -> Iterator[tuple[list[TrackedFrame], StreamPosition]]:
        """Yields after each clip the frames that it settled, and where the video then stands.

        Between two items the tracker's state and the position are all there is to know of the
        video, so that it can be taken up again from there.

        Args:
            frames: as in :meth:`__call__`; see :meth:`clips`.
            position: where to go on; the tracker must be in the state it had there. ``None``
                begins a video.
        """
        finished = 0 if position is None else position.finished
        if position is None:
            self.tracker.reset()
        for clip in self.clips(frames, position):
            predicted, position = clip.prediction, clip.position
            tracked = self.tracker.update(
                predicted.cls_logits, predicted.mask_logits, predicted.embeds, start=clip.start
            )
            settled = self._settled(tracked, finished, position)
            finished += len(settled)
            yield settled, replace(position, finished=finished)
        if position is not None:
            settled = self._settled(self.tracker.finish(), finished, position)
            yield settled, replace(position, finished=finished + len(settled))

    def _settled(
        self, tracked: Sequence[Tensor | TrackFrame], finished: int, position: StreamPosition
    ) -> list[TrackedFrame]:
        # frames past the end repeat the last one of a video shorter than a clip
        return [
            TrackedFrame(index, position.size, *self.tracker.unpack(frame), frame)
            for index, frame in enumerate(tracked[: position.seen - finished], finished)
        ]

    @torch.no_grad()
    def clips(
        self, frames: Iterable[np.ndarray], position: StreamPosition | None = None
    ) -> Iterator[PredictedClip]:
        """Yields the prediction of each clip of a video, without tracking.

        Args:
            frames: as in :meth:`__call__`. Where a position is given they begin
                :meth:`num_replayed` frames before ``position.seen``.
            position: where to go on; ``None`` begins a video.

        Raises:
            ValueError: where a frame's size differs from the first one's.
        """
        position = position or StreamPosition()
        ring: deque[DecoderInputs] = deque(maxlen=self.clip_length)
        seen = position.seen - self.num_replayed(position)
        for image in frames:
            position = _checked_size(position, image, seen)
            ring.append(self._encode_frame(image))
            seen += 1
            if seen <= position.seen:
                continue
            position = replace(position, seen=seen)
            start = position.next_start
            if seen == start + self.clip_length:
                position = replace(position, next_start=start + self.clip_stride)
                yield PredictedClip(start, self._predict_clip(ring), position)
        if seen < position.seen:
            raise ValueError(f'the video has {seen} frames, it had {position.seen} before')
        covered = position.next_start - self.clip_stride + self.clip_length
        if seen and (covered < seen or not position.next_start):
            ring.extend([ring[-1]] * (self.clip_length - len(ring)))
            start = max(seen - self.clip_length, 0)
            position = replace(position, next_start=start + self.clip_stride)
            yield PredictedClip(start, self._predict_clip(ring), position)

    def num_replayed(self, position: StreamPosition) -> int:
        """How many frames have to be read again to go on at a position."""
        return min(position.seen, self.clip_length)

    def _encode_frame(self, image: np.ndarray) -> DecoderInputs:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        network = self.model.student
        features = network.encode_frames(self.model.data_preprocessor.frame(pixels))
        return network.track_head.decoder_inputs(features)

    def _predict_clip(self, ring: Iterable[DecoderInputs]) -> ClipPredictions:
        inputs = DecoderInputs.cat(list(ring))
        return self.model.student.track_head.decode(inputs, len(inputs), last_only=True)[-1].clip(0)

    def tracks_to_encode(self, *, at_end: bool) -> set[int]:
        """Tracks whose masks are needed if the video ends here, or may be when it ends later."""
        return self._reported() if at_end else self._promising()

    def _reported(self) -> set[int]:
        """Tracks that would be reported if the video ended here."""
        return set(self.tracker.select(self.tracker.scores().cpu()).query_inds.tolist())

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
        masks: TrackMasks,
    ) -> None:
        """Enlarges, counts and encodes the kept tracks of all buffered frames; empties it."""
        while buffer:
            self.encode_frame(buffer.popleft(), ori_shape, masks, keep)

    def encode_frame(
        self,
        frame: TrackedFrame,
        ori_shape: tuple[int, int],
        masks: TrackMasks,
        keep: Collection[int],
    ) -> dict[int, RLE]:
        """Enlarges, counts and encodes the tracks of one frame and adds them to ``masks``.

        Args:
            frame: each frame once, in order, where the tracker chooses its tracks itself.
            ori_shape: (H0, W0) of the masks.
            masks: of the video.
            keep: ids of the tracks to encode; all are where the tracker chooses its tracks itself.

        Returns:
            RLEs by track id.
        """
        ids = frame.track_ids.tolist()
        whole: Tensor | None = None
        if masks.windows is not None:
            rows = list(range(len(ids)))
            whole = self.enlarge(frame.mask_logits, frame.size)
            assert isinstance(frame.tracked, TrackFrame)  # its tracker chooses by windows
            masks.windows.add(frame.tracked, whole)
        else:
            visible = _visible(frame).tolist()
            rows = [row for row, track in enumerate(ids) if visible[row] and track in keep]
        step = max(1, _MAX_PIXELS // (ori_shape[0] * ori_shape[1]))
        device = self.model.data_preprocessor.device
        encoded: dict[int, RLE] = {}
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            if whole is None:
                enlarged = self.enlarge(frame.mask_logits[part].to(device), frame.size)
            else:
                enlarged = whole[begin : begin + step]
            final = F.interpolate(enlarged[None], ori_shape, mode='bilinear', align_corners=False)
            tracks = [ids[row] for row in part]
            rles = encode_masks(final[0] > 0)
            masks.add(frame.index, tracks, rles, mask_quality_counts(enlarged).cpu())
            encoded.update(zip(tracks, rles))
        return encoded

    def enlarge(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """(M, h, w) logits to the network's input size, cut to the un-padded frame."""
        padded = self.model.data_preprocessor.padded_size(*size)
        # tracks in the batch axis, where interpolate allows none at all
        full = F.interpolate(logits[:, None].float(), padded, mode='bilinear', align_corners=False)
        return full[:, 0, : size[0], : size[1]]

    def _to_prediction(
        self, video_id: int, ori_shape: tuple[int, int], num_frames: int, masks: TrackMasks
    ) -> VideoPrediction:
        none = torch.zeros(0, dtype=torch.long)
        found = masks.candidates(self.tracker) if num_frames else Candidates(none, none, none)
        tracks = found.query_inds.tolist()
        # classes of one track share one list: whoever checks or writes it does so once
        drawn = {
            i: [self._drawn(masks.segmentations.get(i, {}).get(t)) for t in range(num_frames)]
            for i in dict.fromkeys(tracks)
        }
        return VideoPrediction(
            video_id=video_id,
            size=ori_shape,
            num_frames=num_frames,
            labels=found.labels.numpy(),
            scores=found.scores.double().numpy(),
            track_ids=found.query_inds.numpy(),
            segmentations=[drawn[i] for i in tracks],
        )

    @staticmethod
    def _drawn(rle: RLE | None) -> RLE | None:
        return rle if rle is not None and mask_utils.area(rle) else None


def _checked_size(position: StreamPosition, image: np.ndarray, index: int) -> StreamPosition:
    """The position with the size of frame ``index``, which is that of the frames before."""
    height, width = image.shape[:2]
    if position.size not in ((0, 0), (height, width)):
        raise ValueError(
            f'frame {index} has {width}x{height} pixels, the frames before '
            f'{position.size[1]}x{position.size[0]}: all frames of a video must have one size'
        )
    return replace(position, size=(height, width))


def _visible(frame: TrackedFrame) -> Tensor:
    """(M,) bool: of which tracks anything can be counted or drawn.

    Bilinear resizing raises no maximum, and logits up to -1 are neither.
    """
    return frame.mask_logits.amax((-2, -1)) > -1


def _shelved(frame: TrackedFrame) -> TrackedFrame:
    """A frame to be encoded later: its visible tracks alone, in the host's memory."""
    visible = _visible(frame)
    return TrackedFrame(
        frame.index,
        frame.size,
        frame.mask_logits[visible].cpu(),
        frame.track_ids[visible.to(frame.track_ids.device)].cpu(),
        None,
    )
