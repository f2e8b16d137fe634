"""Shows the tracks of tested videos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.hooks import Hook

from mmboxvis.files import safe_name, unique_name
from mmboxvis.registry import HOOKS
from mmboxvis.visualization.files import write_image

from .overlay import overlay_frames
from .tracks import keep_best_of_duplicates
from .video_writer import write_video

if TYPE_CHECKING:
    from mmdet.structures import TrackDataSample
    from mmengine.runner import Runner

    from mmboxvis.structures import VideoPrediction


@HOOKS.register_module()
class VideoOverlayHook(Hook):
    """Writes each tested video with its tracks drawn over the frames.

    Frames are read a second time, one by one, from the lazy input of the model, so memory does
    not grow with the length of the video. In distributed testing each process writes the videos
    it tested.

    Args:
        out_dir: folder for the videos; ``<work_dir>/<timestamp>/overlays`` by default.
        score_thr: tracks of a lower score are not drawn.
        fps: frames per second of the videos.
        max_videos: number of videos to write in each process, all where ``None``.
        as_video: write ``<video name>.mp4``; else a folder of JPEG frames,
            numbered from 0.
        during_val: whether videos of the validations between training are written as well; a
            later validation replaces the files of an earlier one.
        trail_length: number of earlier frames whose centres are drawn behind each track.
        show_boxes: whether the boxes around the masks are drawn as well.
    """

    def __init__(
        self,
        out_dir: str | os.PathLike[str] | None = None,
        score_thr: float = 0.3,
        fps: float = 8,
        max_videos: int | None = None,
        as_video: bool = True,
        during_val: bool = False,
        trail_length: int = 0,
        show_boxes: bool = False,
    ) -> None:
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.score_thr = score_thr
        self.fps = fps
        self.max_videos = max_videos
        self.as_video = as_video
        self.during_val = during_val
        self.trail_length = trail_length
        self.show_boxes = show_boxes
        # file name of each video, known by its name and id
        self._names: dict[tuple[str, int], str] = {}

    def before_test(self, runner: Runner) -> None:
        """Starts counting anew."""
        self._names = {}

    def before_val_epoch(self, runner: Runner) -> None:
        """Starts counting anew."""
        self._names = {}

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence[TrackDataSample] | None = None,
    ) -> None:
        """Writes the videos of one test batch.

        Args:
            runner: its ``test_dataloader.dataset.metainfo['classes']`` names the labels.
            batch_idx: not used.
            data_batch: ``inputs`` holds, for each video, a sequence of (h, w, 3) uint8 BGR frames.
            outputs: one sample a video with ``pred_video`` and the metainfo ``video_name``.

        Raises:
            ValueError: input and prediction differ in length.
        """
        self._write_batch(runner, runner.test_dataloader.dataset, data_batch, outputs)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence[TrackDataSample] | None = None,
    ) -> None:
        """The same for a validation batch, if ``during_val``."""
        if self.during_val:
            self._write_batch(runner, runner.val_dataloader.dataset, data_batch, outputs)

    def _write_batch(self, runner: Runner, dataset: Any, data_batch: Any, outputs: Any) -> None:
        for frames, sample in zip(data_batch['inputs'], outputs, strict=True):
            prediction: VideoPrediction = sample.pred_video
            if self._is_enough(prediction.video_id):
                continue
            name = self._file_name(sample.metainfo['video_name'], prediction.video_id)
            if len(frames) != prediction.num_frames:
                raise ValueError(
                    f'video {sample.metainfo["video_name"]}: {len(frames)} input frames but '
                    f'pred_video is of {prediction.num_frames}'
                )
            folder = self.out_dir or Path(runner.work_dir, runner.timestamp, 'overlays')
            drawn = self._draw(frames, prediction, dataset.metainfo['classes'])
            if self.as_video:
                write_video(folder / f'{name}.mp4', drawn, self.fps)
            else:
                _write_frames(folder / name, drawn)

    def _is_enough(self, video_id: int) -> bool:
        known = any(video_id == other for _, other in self._names)
        return self.max_videos is not None and not known and len(self._names) >= self.max_videos

    def _file_name(self, video_name: str, video_id: int) -> str:
        """A file name of its own for each video, which cannot lead out of the folder."""
        key = video_name, video_id
        if key not in self._names:
            name = safe_name(video_name) or f'video_{video_id}'
            self._names[key] = unique_name(name, self._names.values(), video_id)
        return self._names[key]

    def _draw(
        self, frames: Sequence[np.ndarray], prediction: VideoPrediction, classes: Sequence[str]
    ) -> Iterable[np.ndarray]:
        good = np.flatnonzero(np.asarray(prediction.scores) >= self.score_thr)
        segmentations = [prediction.segmentations[index] for index in good]
        kept = keep_best_of_duplicates(segmentations, prediction.scores[good])
        shown = good[kept]
        return overlay_frames(
            (frames[t] for t in range(len(frames))),
            [segmentations[index] for index in kept],
            labels=prediction.labels[shown],
            scores=prediction.scores[shown],
            track_ids=prediction.track_ids[shown],
            class_names=classes,
            trail_length=self.trail_length,
            show_boxes=self.show_boxes,
        )


def _write_frames(folder: Path, frames: Iterable[np.ndarray]) -> None:
    for t, frame in enumerate(frames):
        write_image(folder / f'{t:05d}.jpg', frame)
