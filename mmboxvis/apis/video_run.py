"""One video on its way through a predictor: results frame by frame, and the whole at the end."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from mmengine.dataset import Compose
from pycocotools import mask as mask_utils

from mmboxvis.datasets.video_frames import FrameError, Transform
from mmboxvis.evaluation.functional import track_iou
from mmboxvis.files import StrPath, whole_file
from mmboxvis.models.vis import VideoPredictor
from mmboxvis.models.vis.video_predictor import StreamPosition, TrackedFrame
from mmboxvis.structures.video_prediction import RLE
from mmboxvis.visualization import overlay_frames

from .read_ahead import ReadAhead
from .sources import FrameSource
from .spool import MaskSpool, SpooledMasks, SpooledTrack, pack, unpack

_STATE_VERSION = 1
# frames at which tracks are compared to find those that show one object
_COMPARED_FRAMES = 200


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The n tracks seen in one frame, best first, as they stand when the frame is finished.

    Attributes:
        index: number of the frame, among those used of the source.
        size: (H, W) of the frame as it was read.
        track_ids: (n,) int64, the same for an object in all frames.
        labels: (n,) int64, the class that is best by now.
        scores: (n,) float64 in [0, 1], class times mask quality by now; the video's own come at
            its end.
        segmentations: n compressed RLEs at the original size, none of them empty.
    """

    index: int
    size: tuple[int, int]
    track_ids: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    segmentations: tuple[RLE, ...]

    def __len__(self) -> int:
        return len(self.segmentations)

    def masks(self) -> np.ndarray:
        """Decodes the masks: (n, H, W) bool."""
        if not self.segmentations:
            return np.zeros((0, *self.size), bool)
        return np.stack([mask_utils.decode(rle) for rle in self.segmentations]).astype(bool)


@dataclass(frozen=True)
class FinalTracks:
    """The M tracks of a video, best first; one query may stand under several classes.

    Attributes:
        labels: M, 0-based.
        scores: M, in [0, 1].
        track_ids: M.
        segmentations: M sequences of V RLEs or ``None``, read from disk when asked for.
    """

    labels: list[int]
    scores: list[float]
    track_ids: list[int]
    segmentations: list[SpooledTrack]

    def select(self, rows: Sequence[int]) -> FinalTracks:
        """Takes some of the tracks."""
        return FinalTracks(
            labels=[self.labels[row] for row in rows],
            scores=[self.scores[row] for row in rows],
            track_ids=[self.track_ids[row] for row in rows],
            segmentations=[self.segmentations[row] for row in rows],
        )


@dataclass
class _WaitingFrame:
    """A finished frame in memory, and the tracks that have their masks of it."""

    frame: TrackedFrame
    encoded: set[int]


@dataclass
class VideoRun:
    """The state of one video, and what is known of it.

    Each frame is encoded twice: when it is finished for the tracks that would be reported if the
    video ended there, and a buffer later (``buffer_frames`` of :class:`VideoPredictor`) for those
    that have become worth it in between. A video of up to ``buffer_frames`` frames so gets the
    very result of :class:`VideoPredictor`. In memory are the low-resolution logits of one buffer,
    the features of one clip, and a few decoded frames, however long the video is.

    Attributes:
        predictor: of this video alone.
        source: the frames.
        transforms: of one frame, as in testing.
        masks: encoded masks, on disk.
        identity: what has to be the same for the run to be taken up again.
        save_every: seconds between two saves of the state.
        read_ahead: frames that are decoded ahead.
        ori_shape: (H, W) of the frames as they are read, (0, 0) before the first.
        num_frames: frames handed out.
        position: where the network stands.
        complete: whether the video has ended.
        saved: whether the spool holds a state that the run can be taken up from.
    """

    predictor: VideoPredictor
    source: FrameSource
    transforms: Sequence[Transform]
    masks: SpooledMasks
    identity: str = ''
    save_every: float = 60.0
    read_ahead: int = 8
    ori_shape: tuple[int, int] = (0, 0)
    num_frames: int = 0
    position: StreamPosition | None = None
    complete: bool = False
    saved: bool = False
    _buffer: deque[_WaitingFrame] = field(default_factory=deque)

    @property
    def spool(self) -> MaskSpool:
        """Where the masks are."""
        return self.masks.spool

    def restore(self) -> None:
        """Takes up the run that the spool holds, if it holds one.

        Raises:
            ValueError: where it holds another run.
        """
        state = self.spool.state()
        if state is None:
            return
        if (state.get('version'), state.get('identity')) != (_STATE_VERSION, self.identity):
            raise ValueError(
                f'{self.spool.path} holds the beginning of another run: the video, the frames '
                'asked for, the settings, the weights or the device were not the same; repeat '
                'that run, or remove the file to begin anew'
            )
        self.ori_shape = tuple(state['ori_shape'])
        self.num_frames, self.complete = state['num_frames'], state['complete']
        self.source.cut_off = unpack(state.get('cut_off'))
        self.position = StreamPosition(**state['position'])
        self.masks.counts, self.masks.windows = unpack(state['counts']), unpack(state['windows'])
        vars(self.predictor.tracker).update(unpack(state['tracker']))
        self.saved = True

    def results(self) -> Iterator[FrameResult]:
        """Runs the video from where it stands; see :class:`FrameResult`.

        Raises:
            FrameError: where a frame cannot be read, or there is none.
        """
        if self.complete:
            return
        saved = time.monotonic()
        with closing(ReadAhead(self._network_frames(), self.read_ahead)) as images:
            for settled, position in self.predictor.stream_clips(images, self.position):
                self.position = position
                for frame in settled:
                    result = self._encode(frame)
                    self.num_frames += 1
                    yield result
                if len(self._buffer) > self.predictor.buffer_frames:
                    self._encode_waiting(at_end=False)
                    self._buffer.clear()
                if not self._buffer and settled and time.monotonic() - saved >= self.save_every:
                    self.save()
                    saved = time.monotonic()
        if not self.num_frames:
            raise FrameError(
                f'video {self.source.name!r} has no frame to use {self.source.range}; is it '
                'empty, or does it end before?'
            )
        self._encode_waiting(at_end=True)
        self._buffer.clear()
        self.complete = True
        self.save()

    def tracks(self) -> FinalTracks:
        """What is to be reported of the frames handed out so far.

        Raises:
            ValueError: before the first frame.
        """
        if not self.num_frames:
            raise ValueError('no frame has been segmented yet: iterate over the results first')
        self._encode_waiting(at_end=True)
        found = self.masks.candidates(self.predictor.tracker)
        ids = found.query_inds.tolist()
        return FinalTracks(
            labels=found.labels.tolist(),
            scores=found.scores.double().tolist(),
            track_ids=ids,
            segmentations=[
                SpooledTrack(self.spool, track_id, self.num_frames, self.ori_shape)
                for track_id in ids
            ],
        )

    def write_json(self, path: StrPath, category_ids: Sequence[int], video_id: int = 1) -> Path:
        """Writes the tracks in the YouTube-VIS result layout, one mask in memory at a time."""
        tracks = self.tracks()
        with whole_file(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
            file.write('[')
            for row, masks in enumerate(tracks.segmentations):
                head = dict(
                    video_id=video_id,
                    category_id=int(category_ids[tracks.labels[row]]),
                    score=tracks.scores[row],
                )
                file.write((',\n' if row else '\n') + json.dumps(head)[:-1])
                file.write(', "segmentations": [')
                for frame, rle in enumerate(masks):
                    file.write((', ' if frame else '') + json.dumps(rle))
                file.write(']}')
            file.write('\n]\n')
        return Path(path)

    def shown_tracks(self, score_thr: float) -> FinalTracks:
        """The tracks to draw: those that score enough, each object once.

        Tracks are compared in up to 200 frames spread over the video.
        """
        tracks = self.tracks()
        frames = np.linspace(0, self.num_frames - 1, min(self.num_frames, _COMPARED_FRAMES))
        sampled: dict[int, list[RLE | None]] = {}
        kept: list[int] = []
        for row, (track_id, score) in enumerate(zip(tracks.track_ids, tracks.scores)):
            if score < score_thr:
                break
            if track_id in sampled:
                continue
            sampled[track_id] = [tracks.segmentations[row][int(t)] for t in frames]
            others = [sampled[tracks.track_ids[other]] for other in kept]
            if not others or track_iou([sampled[track_id]], others).max() <= 0.9:
                kept.append(row)
        return tracks.select(kept)

    def overlays(
        self,
        class_names: Sequence[str],
        *,
        score_thr: float = 0.3,
        frames: Iterable[np.ndarray] | None = None,
        trail_length: int = 0,
        show_boxes: bool = False,
        min_side: int | None = 256,
    ) -> Iterator[np.ndarray]:
        """Reads the frames once more and draws the tracks over them, with their final scores.

        Raises:
            FrameError: where a frame cannot be read again, or there are fewer than before.
        """
        shown = self.shown_tracks(score_thr)
        images = self.source.frames() if frames is None else iter(frames)
        return overlay_frames(
            self._all_of(images),
            shown.segmentations,
            labels=shown.labels,
            scores=shown.scores,
            track_ids=shown.track_ids,
            class_names=class_names,
            trail_length=trail_length,
            show_boxes=show_boxes,
            min_side=min_side,
        )

    def _all_of(self, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        count = 0
        for image in islice(images, self.num_frames):
            yield image
            count += 1
        if count < self.num_frames:
            raise FrameError(
                f'video {self.source.name!r}: {self.num_frames} frames were segmented, but there '
                f'are only {count} to draw over'
            )

    def save(self) -> None:
        """Writes the state to a spool that stays; between two buffers only."""
        if self.spool.path is None:
            return
        assert self.position is not None
        assert not self._buffer
        self.spool.commit(
            dict(
                version=_STATE_VERSION,
                identity=self.identity,
                ori_shape=list(self.ori_shape),
                num_frames=self.num_frames,
                complete=self.complete,
                cut_off=pack(self.source.cut_off),
                position=asdict(self.position),
                counts=pack(self.masks.counts),
                windows=pack(self.masks.windows),
                tracker=pack(vars(self.predictor.tracker)),
            )
        )
        self.saved = True

    def _network_frames(self) -> Iterator[np.ndarray]:
        """Frames as the network takes them, from those on that it has to see again."""
        position = self.position
        first = 0 if position is None else position.seen - self.predictor.num_replayed(position)
        transform = Compose(self.transforms)
        with closing(self.source.frames(first)) as images:
            for index, image in enumerate(images, first):
                shape = image.shape[:2]
                self.ori_shape = (int(shape[0]), int(shape[1]))
                results = transform(
                    dict(img=image, img_path=None, img_shape=shape, ori_shape=shape, frame_id=index)
                )
                yield np.ascontiguousarray(results['img'])

    def _encode(self, frame: TrackedFrame) -> FrameResult:
        wanted = self._wanted(at_end=True)
        rles = self.predictor.encode_frame(frame, self.ori_shape, self.masks, wanted)
        if self.masks.windows is None:
            self._buffer.append(_WaitingFrame(frame, wanted))
        ids = [track_id for track_id, rle in rles.items() if mask_utils.area(rle)]
        labels, scores = self.masks.best_classes(self.predictor.tracker, ids)
        order = np.argsort(-scores, kind='stable')
        return FrameResult(
            index=frame.index,
            size=self.ori_shape,
            track_ids=np.array(ids, np.int64)[order],
            labels=labels[order],
            scores=scores[order],
            segmentations=tuple(rles[ids[row]] for row in order),
        )

    def _encode_waiting(self, *, at_end: bool) -> None:
        """Gives the frames in memory the masks that they lack."""
        wanted = self._wanted(at_end=at_end)
        for waiting in self._buffer:
            late = wanted - waiting.encoded
            if late:
                self.predictor.encode_frame(waiting.frame, self.ori_shape, self.masks, late)
                waiting.encoded |= late

    def _wanted(self, *, at_end: bool) -> set[int]:
        # a tracker that chooses its tracks itself gets them all encoded at once
        by_window = self.masks.windows is not None
        return set() if by_window else self.predictor.tracks_to_encode(at_end=at_end)
