"""Reads and checks annotation files in YouTube-VIS layout.

Shape shorthand: V frames in a video, N annotated instances.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeGuard

import numpy as np

from mmboxvis.files import AnnotationError, name_fault, origin, shown
from mmboxvis.run_lengths import MAX_SIDE

BoxSource = Literal['box', 'mask']
EmptyBoxes = Literal['error', 'absent']

BOX_SLACK = 0.5
"""A box may leave the frame by so many pixels without a warning: rounding of floats."""

# larger numbers in a box are a fault of the file, not a place; float32 holds whole ones up to it
_MAX_NUMBER = 1e7


@dataclass
class VideoInstances:
    """The N instances of one video.

    Attributes:
        ids: (N,) int64 annotation ids.
        labels: (N,) int64.
        boxes: (N, V, 4) float32 xyxy in pixels, zero where absent.
        valid: (N, V) bool: where an instance is seen.
        segmentations: N lists of V run-lengths, polygon lists or ``None``; ``None`` as a whole
            where masks are not asked for.
    """

    ids: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    valid: np.ndarray
    segmentations: list[list[Any]] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class _Track:
    """One annotation's lists as they stand in the file; ``label`` is ``None`` if it is dropped."""

    key: int
    label: int | None
    video: Mapping[str, Any]
    boxes: list[Any]
    masks: list[Any] | None = None

    @property
    def where(self) -> str:
        return f'video {self.video["id"]} ({self.video["name"]}), annotation {self.key}'


def read_json(path: str | Path) -> dict[str, Any]:
    """Loads an annotation file.

    Raises:
        FileNotFoundError: if it is missing.
        AnnotationError: if it is no json object.
    """
    path = Path(path)
    if path.is_dir():
        raise FileNotFoundError(f'annotation file {path} is a folder; give the json file in it')
    if not path.is_file():
        raise FileNotFoundError(
            f'annotation file {path} not found; check data_root and ann_file{origin(path)}'
        )
    try:
        content = json.loads(path.read_bytes())
    except RecursionError as error:
        raise AnnotationError(f'{path} is not valid json: nested too deeply') from error
    except ValueError as error:
        raise AnnotationError(
            f'{path} is not valid json: {error}; was the file written completely?'
        ) from error
    if not isinstance(content, dict):
        raise AnnotationError(
            f'{path}: expected a json object with videos, categories and annotations, '
            f'got a {type(content).__name__}'
        )
    return content


def clip_xywh(xywh: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts boxes to their frames.

    Args:
        xywh: (F, 4) float64, boxes as they stand in files.
        sizes: (F, 2), width and height of the frame of each.

    Returns:
        (F, 4) xyxy, zero where nothing is left; (F,) bool: something is left; (F,) bool: something
        is left, and more than :data:`BOX_SLACK` was cut off.
    """
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    clipped = corners.clip(0, np.tile(sizes, 2))
    inside = np.all(clipped[:, 2:] > clipped[:, :2], axis=1)
    cut = np.any(np.abs(clipped - corners) > BOX_SLACK, axis=1)
    return clipped * inside[:, None], inside, cut & inside


@dataclass
class VideoJsonReader:
    """Turns a loaded YouTube-VIS json into one checked record a video.

    Every entry is checked, also those that are dropped later. Boxes that leave the frame are
    clipped and counted in one warning a file.

    Args:
        path: named in messages.
        content: the loaded json. It is not changed.
        box_source: ``'box'`` reads ``bboxes`` and never touches masks; ``'mask'`` reads
            ``segmentations`` instead.
        load_masks: also hand on ``segmentations``.
        empty_boxes: what a box without area means: an ``'error'``, or that the instance is
            ``'absent'`` in that frame.
        need_annotations: whether a file without annotations is an error (training).
    """

    path: str
    content: Mapping[str, Any]
    box_source: BoxSource = 'box'
    load_masks: bool = False
    empty_boxes: EmptyBoxes = 'error'
    need_annotations: bool = True
    _clipped: int = field(default=0, init=False)
    _outside: int = field(default=0, init=False)
    _empty: int = field(default=0, init=False)

    def categories(self) -> dict[int, str]:
        """Category id to name, in the file's order.

        Raises:
            AnnotationError: if an entry lacks a field or repeats an id or a name.
        """
        found: dict[int, str] = {}
        for index, category in enumerate(self._list('categories')):
            where = f'categories[{index}]'
            key, name = self._id(category, 'id', where), self._get(category, 'name', where)
            if not isinstance(name, str):
                self.fail(where, f"'name' must be text, got {shown(name)}")
            if key in found or name in found.values():
                self.fail(
                    where,
                    f'id {key} or name {name!r} is used twice; ids and names must be unique',
                )
            found[key] = name
        return found

    def used_categories(self) -> set[int] | None:
        """The category ids that annotations have, ``None`` if the file has no annotations."""
        entries = self.content.get('annotations')
        if not isinstance(entries, list) or not entries:
            return None
        found = (entry.get('category_id') for entry in entries if isinstance(entry, dict))
        return {key for key in found if isinstance(key, int)}

    def videos(self) -> list[dict[str, Any]]:
        """Checked entries: ``id``, ``name``, ``file_names``, ``height``, ``width``.

        Height and width are ``None`` where the file does not tell.

        Raises:
            AnnotationError: if an entry lacks a field or repeats an id or a frame.
        """
        checked, seen = [], set()
        for index, video in enumerate(self._list('videos')):
            where = f'videos[{index}]'
            key = self._id(video, 'id', where)
            if key in seen:
                self.fail(where, f'video id {key} is used twice; video ids must be unique')
            seen.add(key)
            names = self._file_names(video, f'video {key}')
            fallback = str(Path(names[0]).parent)
            checked.append(
                dict(
                    id=key,
                    name=str(video.get('name', fallback if fallback != '.' else key)),
                    file_names=names,
                    height=self._side(video, 'height', f'video {key}'),
                    width=self._side(video, 'width', f'video {key}'),
                )
            )
        return checked

    def instances(
        self, videos: Sequence[Mapping[str, Any]], label_of: Mapping[int, int | None]
    ) -> dict[int, VideoInstances]:
        """Checks all annotations and gathers them by video id.

        Args:
            videos: entries of :meth:`videos` with height and width known.
            label_of: training label of each category id, ``None`` where it is dropped.

        Raises:
            AnnotationError: at the first broken annotation.
        """
        by_id = {video['id']: video for video in videos}
        tracks: list[_Track] = []
        seen: set[int] = set()
        for index, annotation in enumerate(self._annotations()):
            key = self._id(annotation, 'id', f'annotations[{index}]')
            where = f'annotation {key}'
            if key in seen:
                self.fail(where, 'id is used twice; annotation ids must be unique in the file')
            seen.add(key)
            video = by_id.get(self._id(annotation, 'video_id', where))
            if video is None:
                self.fail(where, f'video_id {annotation["video_id"]} is not among the videos')
            category = self._id(annotation, 'category_id', where)
            if category not in label_of:
                self.fail(where, f'category_id {category} is not among the categories')
            crowd = annotation.get('iscrowd', 0)
            if crowd not in (0, 1, None):
                self.fail(where, f"'iscrowd' must be 0 or 1, got {shown(crowd)}")
            label = None if crowd else label_of[category]
            tracks.append(self._track(annotation, video, label))
        boxes, valid = self._boxes(tracks)
        self._warn()
        return self.gather(videos, tracks, boxes, valid)

    def gather(
        self,
        videos: Sequence[Mapping[str, Any]],
        tracks: Sequence[_Track],
        boxes: np.ndarray,
        valid: np.ndarray,
    ) -> dict[int, VideoInstances]:
        """Cuts the boxes of the whole file (frames of all tracks in a row) by video.

        A subclass that only asks whether a file can be read may return nothing here.
        """
        rows: dict[int, list[tuple[_Track, slice]]] = {video['id']: [] for video in videos}
        start = 0
        for track in tracks:
            stop = start + len(track.video['file_names'])
            if track.label is not None:
                rows[track.video['id']].append((track, slice(start, stop)))
            start = stop
        gathered = {}
        for video in videos:
            own, length = rows[video['id']], len(video['file_names'])
            gathered[video['id']] = VideoInstances(
                ids=np.array([track.key for track, _ in own], np.int64),
                labels=np.array([track.label for track, _ in own], np.int64),
                boxes=np.array([boxes[part] for _, part in own], np.float32).reshape(-1, length, 4),
                valid=np.array([valid[part] for _, part in own], bool).reshape(-1, length),
                segmentations=(
                    [track.masks or [] for track, _ in own] if self._reads_masks else None
                ),
            )
        return gathered

    @property
    def _reads_masks(self) -> bool:
        return self.load_masks or self.box_source == 'mask'

    def _track(
        self, annotation: Mapping[str, Any], video: Mapping[str, Any], label: int | None
    ) -> _Track:
        """Takes the per-frame lists of one annotation; boxes are not looked into yet."""
        length = len(video['file_names'])
        track = _Track(annotation['id'], label, video, boxes=[None] * length)
        if self._reads_masks:
            track.masks = self._per_frame(annotation, 'segmentations', length, track.where)
            self._check_mask_sizes(track)
        # evaluation needs no boxes: results are compared with the masks
        optional = not self.need_annotations and annotation.get('bboxes') is None
        if self.box_source == 'box' and not optional:
            track.boxes = self._per_frame(annotation, 'bboxes', length, track.where)
        return track

    def _per_frame(
        self, annotation: Mapping[str, Any], name: str, length: int, where: str
    ) -> list[Any]:
        entries = annotation.get(name)
        if not isinstance(entries, list):
            hint = (
                "set box_source='mask' to take boxes from the masks"
                if name == 'bboxes'
                else "set box_source='box' and load_masks=False to train from boxes only"
            )
            self.fail(where, f'has no list {name!r}; {hint}')
        if len(entries) != length:
            self.fail(
                where,
                f'{name!r} has {len(entries)} entries, but the video has {length} frames; write '
                'one entry a frame, null where the instance is not seen',
            )
        return entries

    def _boxes(self, tracks: Sequence[_Track]) -> tuple[np.ndarray, np.ndarray]:
        """Boxes of all tracks, one after another: xyxy (F, 4) float32 and validity (F,).

        With ``box_source='mask'`` boxes are zero and the validity is that of the masks.
        """
        if self.box_source == 'mask':
            valid = np.array([m is not None for track in tracks for m in track.masks or []], bool)
            return np.zeros((len(valid), 4), np.float32), valid
        raw = [box for track in tracks for box in track.boxes]
        given = [box for box in raw if box is not None]
        try:
            kinds = set(map(type, itertools.chain.from_iterable(given)))
            xywh = np.array(given or np.zeros(0)).reshape(len(given), 4)
            # comparisons with NaN are false
            good = kinds <= {int, float} and bool(
                np.all(np.abs(xywh) <= _MAX_NUMBER) and np.all(xywh[:, 2:] > 0)
            )
        except (TypeError, ValueError):
            good = False
        if not good:
            raw = [box for track in tracks for box in self._boxes_one_by_one(track)]
            xywh = np.array([box for box in raw if box is not None]).reshape(-1, 4)
        valid = np.array([box is not None for box in raw], bool)
        sizes = np.array([(t.video['width'], t.video['height']) for t in tracks]).reshape(-1, 2)
        sizes = np.repeat(sizes, [len(track.boxes) for track in tracks], axis=0)[valid]
        boxes = np.zeros((len(raw), 4), np.float32)
        boxes[valid], inside, cut = clip_xywh(xywh.astype(np.float64), sizes)
        valid[valid] = inside
        self._clipped += int(np.count_nonzero(cut))
        self._outside += int(np.count_nonzero(~inside))
        return boxes, valid

    def _boxes_one_by_one(self, track: _Track) -> list[Any]:
        """The slow way, which knows the frame that is wrong."""
        kept: list[Any] = []
        for frame, box in enumerate(track.boxes):
            if box is None:
                kept.append(None)
                continue
            place = f'{track.where}, frame {frame}, field bboxes'
            is_list = isinstance(box, (list, tuple)) and len(box) == 4
            if not is_list or not all(map(is_coordinate, box)):
                self.fail(place, f'expected [x, y, w, h] in pixels or null, got {shown(box)}')
            if box[2] < 0 or box[3] < 0:
                self.fail(place, f'width and height must be positive, got {box}')
            empty = box[2] == 0 or box[3] == 0
            if empty and self.empty_boxes == 'error':
                self.fail(
                    place,
                    f'the box {box} has no area; write null where the instance is not seen, '
                    "or set empty_boxes='absent' to read it so",
                )
            self._empty += int(empty)
            kept.append(None if empty else box)
        return kept

    def _check_mask_sizes(self, track: _Track) -> None:
        size = [track.video['height'], track.video['width']]
        for frame, mask in enumerate(track.masks or []):
            place = f'{track.where}, frame {frame}, field segmentations'
            if isinstance(mask, dict) and mask.get('size') != size:
                self.fail(
                    place,
                    f'mask of size {shown(mask.get("size"))}, but the video has (height, width) '
                    f'{size}',
                )
            if not isinstance(mask, dict | list | None) or mask == []:
                self.fail(
                    place,
                    'expected a run-length, a list of polygons, or null where the instance is not '
                    f'seen, got {shown(mask)}',
                )

    def _file_names(self, video: Mapping[str, Any], where: str) -> list[str]:
        names = self._get(video, 'file_names', where)
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            self.fail(where, "'file_names' must be a list of at least one image path")
        for frame, name in enumerate(names):
            fault = name_fault(name)
            if fault is not None:
                self.fail(where, f"'file_names'[{frame}]: {shown(name)} {fault}")
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            self.fail(where, f"'file_names' lists {shown(twice)} twice; each frame once, in order")
        length = video.get('length', len(names))
        if length != len(names):
            self.fail(
                where, f"'length' is {shown(length)}, but 'file_names' has {len(names)} entries"
            )
        return list(names)

    def _side(self, video: Mapping[str, Any], name: str, where: str) -> int | None:
        value = video.get(name)
        if value is None:
            return None
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not 0 < value <= MAX_SIDE or value != int(value):
            self.fail(where, f'{name!r} must be a positive number of pixels, got {shown(value)}')
        return int(value)

    def _annotations(self) -> list[Any]:
        entries = self.content.get('annotations')
        if entries is None:
            if self.need_annotations:
                raise AnnotationError(
                    f'{self.path}: has no annotations (null or missing), so it cannot be trained '
                    'on; use it for testing with test_mode=True, or give the training json'
                )
            return []
        return self._list('annotations')

    def _list(self, name: str) -> list[Any]:
        entries = self.content.get(name)
        if not isinstance(entries, list):
            raise AnnotationError(
                f'{self.path}: expected a list {name!r}, got {type(entries).__name__}; '
                'is this a json in YouTube-VIS layout?'
            )
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                self.fail(f'{name}[{index}]', f'expected an object, got {shown(entry)}')
        return entries

    def _get(self, entry: Mapping[str, Any], name: str, where: str) -> Any:
        if entry.get(name) is None:
            self.fail(where, f'field {name!r} is missing')
        return entry[name]

    def _id(self, entry: Mapping[str, Any], name: str, where: str) -> int:
        value = self._get(entry, name, where)
        if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
            self.fail(where, f'{name!r} must be a whole number, got {shown(value)}')
        return value

    def fail(self, where: str, what: str) -> NoReturn:
        """Refuses the file, because of ``what`` at ``where``; a subclass may raise another error.

        Raises:
            AnnotationError: always.
        """
        raise AnnotationError(f'{self.path}: {where}: {what}')

    def _warn(self) -> None:
        parts = [
            (self._clipped, 'boxes leave the frame and are clipped to it'),
            (self._outside, 'boxes lie outside the frame and are read as absent'),
            (self._empty, 'boxes have no area and are read as absent'),
        ]
        told = [f'{count} {what}' for count, what in parts if count]
        if told:
            warnings.warn(f'{self.path}: {"; ".join(told)}', stacklevel=4)


def is_coordinate(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number that can stand in a box."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -_MAX_NUMBER <= value <= _MAX_NUMBER  # type: ignore[operator]
