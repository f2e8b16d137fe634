"""YouTube-VIS json files: videos, categories, annotations and submitted results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np

from mmboxvis.datasets.video_json import shown
from mmboxvis.evaluation.functional import VideoInfo, load_json
from mmboxvis.evaluation.functional.layout import is_int, mask_problem, mask_string_problems
from mmboxvis.files import path_below
from mmboxvis.run_lengths import RLE

from .files import StrPath
from .tracks import keep_best_of_duplicates, to_rle

Track = Mapping[str, Any]
Json = Mapping[str, Any] | Sequence[Track]


@dataclass(frozen=True)
class VideoFiles:
    """One video of an annotation file; ``size`` is (height, width)."""

    video_id: int
    name: str
    size: tuple[int, int]
    file_names: tuple[str, ...]

    @classmethod
    def from_json(cls, video: Mapping[str, Any]) -> VideoFiles:
        """Reads an entry of ``videos``; a video without a name is called after its folder."""
        try:
            video_id, names = int(video['id']), tuple(video['file_names'])
            size = int(video['height']), int(video['width'])
        except KeyError as error:
            raise ValueError(f'video {video.get("id", "?")} has no field {error}') from None
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ValueError(f'an entry of `videos` is broken ({error}): {shown(video)}') from None
        if min(size) < 1:
            raise ValueError(f'video {video_id} is of {size[1]}x{size[0]} pixels')
        folder = Path(names[0]).parent.name if names else ''
        return cls(video_id, str(video.get('name') or folder or f'video {video_id}'), size, names)


@dataclass(frozen=True)
class VisFile:
    """An annotation file.

    Attributes:
        videos: by id, in the order of the file.
        class_names: name of each category id.
        tracks: annotations of each video id; an id is missing where a video has none.
    """

    videos: dict[int, VideoFiles]
    class_names: dict[int, str]
    tracks: dict[int, list[Track]]

    @classmethod
    def load(cls, source: StrPath | Json) -> VisFile:
        """Reads a path or a loaded file.

        Raises:
            ValueError: it is not an annotation file.
        """
        content, name = _content(source)
        if not isinstance(content, Mapping) or not {'videos', 'categories'} <= set(content):
            raise ValueError(
                f'{name} has no `videos` and `categories`: expected YouTube-VIS annotations'
            )
        try:
            videos = [VideoFiles.from_json(video) for video in content['videos']]
            class_names = {int(c['id']): str(c['name']) for c in content['categories']}
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f'{name}: videos or categories are broken: {error}') from error
        return cls(
            videos={video.video_id: video for video in videos},
            class_names=class_names,
            tracks=_by_video(content.get('annotations') or ()),
        )


class FrameFiles(Sequence[np.ndarray]):
    """The frames of a video, read when asked for: (H, W, 3) uint8 BGR."""

    def __init__(self, image_root: StrPath, video: VideoFiles) -> None:
        self.image_root = image_root
        self.video = video

    def __len__(self) -> int:
        return len(self.video.file_names)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path = Path(path_below(self.image_root, self.video.file_names[index]))
        # OpenCV prints a warning of its own about a file that is not there
        frame = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
        if frame is None:
            problem = 'cannot be decoded' if path.is_file() else 'does not exist'
            raise FileNotFoundError(
                f'video {self.video.name}, frame {index}: {path} {problem}; '
                'image_root is the folder that `file_names` start from'
            )
        return frame


def read_tracks(
    source: StrPath | Json,
    videos: Mapping[int, VideoFiles],
    shown: Sequence[VideoFiles],
    score_thr: float,
) -> dict[int, list[Track]]:
    """Reads results to show: well scored, best first, and one of those that share their masks.

    Args:
        source: a submission list, or annotations with ``segmentations``, which carry no score
            and are all kept.
        videos: the videos known.
        shown: those among them whose tracks are wanted.
        score_thr: results of a lower score are dropped.

    Returns:
        The tracks of each video id in ``shown``, masks as compressed RLEs.

    Raises:
        ValueError: there are results, but none of a known video.
    """
    content, name = _content(source)
    if isinstance(content, Mapping):
        content = content.get('annotations') or ()
    tracks = _by_video(content)
    if tracks and not tracks.keys() & videos.keys():
        raise ValueError(
            f'{name}: no result is of a known video (video ids {sorted(tracks)[:5]}… against '
            f'{sorted(videos)[:5]}…); were they made for another data set?'
        )
    return {
        video.video_id: _to_show(tracks.get(video.video_id, []), video, score_thr)
        for video in shown
    }


def choose_videos(
    videos: Mapping[int, VideoFiles], video_ids: Sequence[int] | None, number: int
) -> list[VideoFiles]:
    """Takes the videos asked for, or ``number`` spread evenly over those that have frames.

    Raises:
        ValueError: an id is unknown or that of a video without frames, or there is no video.
    """
    with_frames = [video for video in videos.values() if video.file_names]
    if video_ids is not None:
        unknown = [video_id for video_id in video_ids if video_id not in videos]
        if unknown:
            raise ValueError(f'unknown video ids {unknown}; the file has {sorted(videos)[:20]}')
        chosen = [videos[video_id] for video_id in video_ids]
        empty = [video.video_id for video in chosen if not video.file_names]
        if empty or not chosen:
            told = f'videos {empty} have no frames' if empty else 'video_ids is empty'
            raise ValueError(f'no video to show: {told}')
        return chosen
    if not with_frames or number < 1:
        raise ValueError(
            f'no video to show: {number} asked for, the file has {len(with_frames)} with frames'
        )
    steps = np.unique(np.linspace(0, len(with_frames) - 1, number).round().astype(int))
    return [with_frames[step] for step in steps]


def check_length(track: Track, num_frames: int, video: str) -> None:
    """Raises a ValueError if a track has not one entry for each frame of its video."""
    for field in ('bboxes', 'segmentations'):
        if track.get(field) is not None and not isinstance(track[field], list | tuple):
            raise ValueError(f'video {video}: {field} of a track must be a list')
        if track.get(field) is not None and len(track[field]) != num_frames:
            raise ValueError(
                f'video {video}: a track of category {track.get("category_id")} has '
                f'{len(track[field])} {field} but the video has {num_frames} frames; '
                'give one entry per frame, null where the object is not seen'
            )


def _content(source: StrPath | Json) -> tuple[Any, str]:
    if isinstance(source, Mapping) or (
        isinstance(source, Sequence) and not isinstance(source, str)
    ):
        return source, 'the json given'
    return load_json(source), str(source)


def _by_video(tracks: Sequence[Track]) -> dict[int, list[Track]]:
    grouped: dict[int, list[Track]] = {}
    for index, track in enumerate(tracks):
        if not isinstance(track, Mapping) or not is_int(track.get('video_id')):
            raise ValueError(f"track {index}: expected an object with a whole number 'video_id'")
        if not is_int(track.get('category_id')):
            raise ValueError(f"track {index}: expected a whole number as 'category_id'")
        score = track.get('score', 1.0)
        if not isinstance(score, Real) or isinstance(score, bool) or not math.isfinite(score):
            raise ValueError(f"track {index}: expected a number as 'score', got {shown(score)}")
        grouped.setdefault(int(track['video_id']), []).append(track)
    return grouped


def _checked_masks(track: Track, video: VideoFiles) -> list[RLE | None]:
    """Masks of one track as compressed RLEs that pycocotools can be trusted with."""
    info = VideoInfo(video.video_id, video.name, video.size, len(video.file_names))
    where = f'video {video.name}: a track of category {track.get("category_id")}'
    masks: list[RLE | None] = []
    for frame, entry in enumerate(track['segmentations']):
        place = f'{where}, frame {frame}'
        try:
            mask = to_rle(entry, video.size)
        except ValueError as error:
            raise ValueError(f'{place}: {error}') from error
        problem = mask_problem(mask, info) if mask else None
        if problem:
            raise ValueError(f'{place}: {problem}')
        masks.append(mask)
    strings = [(where, frame, mask, info) for frame, mask in enumerate(masks) if mask]
    for problem in mask_string_problems(strings):
        raise ValueError(problem)
    return masks


def _to_show(tracks: Sequence[Track], video: VideoFiles, score_thr: float) -> list[Track]:
    good = [track for track in tracks if track.get('score', 1.0) >= score_thr]
    for track in good:
        if track.get('segmentations') is None:
            raise ValueError(
                f'video {video.name}: a track of category {track.get("category_id")} has no '
                '`segmentations`, so there is no mask to show'
            )
        check_length(track, len(video.file_names), video.name)
    good = [{**track, 'segmentations': _checked_masks(track, video)} for track in good]
    kept = keep_best_of_duplicates(
        [track['segmentations'] for track in good], [track.get('score', 1.0) for track in good]
    )
    return [good[index] for index in kept]
