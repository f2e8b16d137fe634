"""Finds every fault of an annotation file, and repairs what can be repaired safely.

What an error is, :class:`~.video_json.VideoJsonReader` decides, which training reads with: it is
given the annotations in batches, and where it refuses one, the batch is halved until the entry,
the frame and the field are known. Nothing is checked here that it checks already.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
from PIL import Image

from .categories import match_categories
from .json_stream import (
    AnnotationFile,
    JsonStream,
    Layout,
    OnBytes,
    StrPath,
    read_annotation_file,
    without_gc,
    write_json_stream,
)
from .video_frames import FrameError, read_frame
from .video_json import _SLACK, AnnotationError, EmptyBoxes, VideoInstances, VideoJsonReader

Level = Literal['error', 'warning']
Item = TypeVar('Item')

#: Adds up compressed run-lengths: which of S strings can be read, and the pixels of each.
MaskTotals = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]

_BATCH = 20_000
# stands for the sides of a frame where the file does not tell them
_UNKNOWN_SIDE = 1 << 30
_EXIF_ORIENTATION, _EXIF_TURNED = 0x0112, (5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault and where it is; what does not apply is ``None``.

    Attributes:
        level: ``'error'`` stops training, ``'warning'`` does not.
        what: what is wrong, and what to do.
        video: id of the video or image.
        name: its name.
        frame: position in the video, from 0.
        annotation: id of the annotation.
        field: field of the entry.
        entry: place in the file where an id cannot tell it, such as ``annotations[3]``.
        fixable: whether :func:`fix_dataset` repairs it.
    """

    level: Level
    what: str
    video: Any = None
    name: str | None = None
    frame: int | None = None
    annotation: Any = None
    field: str | None = None
    entry: str | None = None
    fixable: bool = False

    def __str__(self) -> str:
        named = '' if self.name is None else f' ({self.name})'
        parts = [
            self.entry,
            None if self.video is None else f'video {self.video}{named}',
            None if self.frame is None else f'frame {self.frame}',
            None if self.annotation is None else f'annotation {self.annotation}',
            None if self.field is None else f'field {self.field}',
        ]
        where = ', '.join(part for part in parts if part is not None)
        return f'{self.level}: {where}: {self.what}' if where else f'{self.level}: {self.what}'


@dataclass
class CheckReport:
    """What was found in a file.

    Attributes:
        path: the file.
        layout: YouTube-VIS (``'video'``) or COCO (``'image'``).
        problems: in the order of the file.
        counts: videos, frames, categories, annotations, objects (boxes).
    """

    path: str
    layout: Layout = 'video'
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def errors(self) -> list[Problem]:
        """Problems that stop training."""
        return [problem for problem in self.problems if problem.level == 'error']

    @property
    def warnings(self) -> list[Problem]:
        """Problems that do not."""
        return [problem for problem in self.problems if problem.level == 'warning']

    def as_dict(self) -> dict[str, Any]:
        """For writing as json."""
        return asdict(self)


@without_gc()
def check_dataset(
    path: StrPath,
    *,
    classes: Sequence[str] | None = None,
    uses_masks: bool = False,
    empty_boxes: EmptyBoxes | None = None,
    need_annotations: bool = True,
    mask_totals: MaskTotals | None = None,
    on_bytes: OnBytes | None = None,
) -> CheckReport:
    """Lists all faults of an annotation file in YouTube-VIS or COCO layout.

    The file is streamed; memory is that of its videos, of one id an annotation, and of the
    problems.

    Args:
        path: the file.
        classes: names of the classes to train; a category that is none of them is an error.
        uses_masks: whether masks are to be used; if not, their faults are warnings.
        empty_boxes: what a box without area is to the data set, an ``'error'`` or that the
            instance is ``'absent'``; by default what the layout's data set does.
        need_annotations: whether a file without annotations is an error.
        mask_totals: reads compressed run-lengths; without it their strings are not looked into.
        on_bytes: told how many bytes have been read; the file is read twice.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    report = CheckReport(str(path))
    try:
        file = read_annotation_file(path, on_bytes=on_bytes)
    except AnnotationError as error:
        report.problems.append(Problem('error', str(error)))
        return report
    report.layout = file.layout
    checker = _Checker(
        file,
        report.problems,
        uses_masks=uses_masks,
        empty_boxes=empty_boxes or ('error' if file.layout == 'video' else 'absent'),
        mask_totals=mask_totals,
    )
    checker.check_lists(need_annotations)
    checker.check_categories(classes)
    checker.check_videos()
    start = 0
    for batch in _batches(file.annotations(on_bytes=on_bytes)):
        checker.check_annotations(batch, start)
        start += len(batch)
    checker.check_unused(need_annotations)
    report.counts = dict(
        videos=len(file.videos),
        frames=sum(len(video['file_names']) for video in checker.videos.values()),
        categories=len(file.categories),
        annotations=file.num_annotations,
        objects=checker.num_objects,
    )
    return report


def _batches(annotations: Iterable[Any]) -> Iterator[list[Any]]:
    """Annotations in batches of about as many boxes: an annotation may have one or hundreds."""
    batch: list[Any] = []
    size = 0
    for annotation in annotations:
        boxes = annotation.get('bboxes') if isinstance(annotation, dict) else None
        batch.append(annotation)
        size += max(1, len(boxes)) if isinstance(boxes, list) else 1
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Refused(Exception):
    """The reader refuses an entry; the message says why, without the place."""


class _Prober(VideoJsonReader):
    """The reader of training, asked about few entries at a time."""

    def _fail(self, where: str, what: str) -> NoReturn:
        raise _Refused(what)

    def _gather(self, *args: Any) -> dict[int, VideoInstances]:
        return {}  # only whether it refuses is asked

    def clip_boxes(
        self, xywh: np.ndarray, sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What becomes of (F, 4) boxes in frames of (F, 2) width and height.

        Returns:
            (F, 4) xyxy inside the frame, and (F,) bool: something is left of it; something of
            it is cut off.
        """
        clipped, inside = self._clip(xywh, np.tile(sizes, 2))
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        return clipped, inside, inside & np.any(np.abs(clipped - corners) > _SLACK, axis=1)


def _why_refused(ask: Callable[[], Any]) -> str | None:
    """What the reader has against something, or ``None``."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # what it would count, is located here one by one
        try:
            ask()
        except _Refused as refusal:
            return str(refusal)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            return f'cannot be read: {error}'
    return None


def _bad_ones(items: Sequence[Item], accepts: Callable[[Sequence[Item]], bool]) -> Iterator[Item]:
    """The items that are not accepted even alone, found by halving, in order."""
    if not items or accepts(items):
        return
    if len(items) == 1:
        yield items[0]
        return
    half = len(items) // 2
    yield from _bad_ones(items[:half], accepts)
    yield from _bad_ones(items[half:], accepts)


@dataclass
class _Checker:
    """Goes through a file part by part and notes problems.

    Attributes:
        videos: the videos whose annotations can be checked, by id, as the reader gives them.
        num_objects: boxes seen so far.
    """

    file: AnnotationFile
    problems: list[Problem]
    uses_masks: bool
    empty_boxes: EmptyBoxes
    mask_totals: MaskTotals | None
    videos: dict[int, dict[str, Any]] = field(default_factory=dict, init=False)
    num_objects: int = field(default=0, init=False)
    _names: dict[int, str] = field(default_factory=dict, init=False)
    _video_ids: set[int | None] = field(default_factory=set, init=False)
    _broken_categories: set[int | None] = field(default_factory=set, init=False)
    _annotation_ids: set[int] = field(default_factory=set, init=False)
    _track_hashes: set[int] = field(default_factory=set, init=False)
    _annotated: set[int] = field(default_factory=set, init=False)
    _used_categories: set[int] = field(default_factory=set, init=False)

    def _note(self, level: Level, what: str, **where: Any) -> None:
        self.problems.append(Problem(level, what, **where))

    def _prober(self, **content: Any) -> _Prober:
        return _Prober(path=str(self.file.path), content=content, empty_boxes='absent')

    # -------------------------------------------------------------- lists

    def check_lists(self, need_annotations: bool) -> None:
        """Notes lists that are missing."""
        for key in self.file.missing:
            if key == 'annotations' and not need_annotations:
                continue
            hint = (
                'the files of hidden sets have none and serve testing only'
                if key == 'annotations'
                else 'is this a json in YouTube-VIS or COCO layout?'
            )
            self._note('error', f'null, missing, or no list; {hint}', field=key)

    def check_unused(self, need_annotations: bool) -> None:
        """Notes videos and categories without annotations."""
        if not need_annotations or 'annotations' in self.file.missing:
            return
        for key, video in self.videos.items():
            if key not in self._annotated:
                what = 'has no annotation, so training leaves it out'
                self._note('warning', what, video=key, name=video['name'])
        unused = [
            f'{key} ({name})'
            for key, name in self._names.items()
            if key not in self._used_categories
        ]
        if unused:
            what = f'no annotation has category {", ".join(unused)}'
            self._note('warning', what, field='categories')

    # -------------------------------------------------------------- categories and videos

    def check_categories(self, classes: Sequence[str] | None) -> None:
        """Notes broken, repeated and unknown categories."""
        for index, entry in enumerate(self.file.categories):
            place = f'categories[{index}]'
            what = _why_refused(self._prober(categories=[entry]).categories)
            if what is not None:
                self._note(
                    'error', what, entry=place,
                    fixable=isinstance(entry, dict) and _can_fix_id(entry.get('id')),
                )  # fmt: skip
                self._broken_categories.add(_repaired_key(entry))
                continue
            key, name = entry['id'], entry['name']
            if not isinstance(name, str):
                self._broken_categories.add(key)
                self._note('error', f'expected text, got {name!r}', entry=place, field='name')
                continue
            for value, taken, column in ((key, self._names, 'id'), (name, self._names, 'name')):
                if value in (taken if column == 'id' else taken.values()):
                    self._note(
                        'error', f'{value!r} is used twice; must be unique', entry=place,
                        field=column,
                    )  # fmt: skip
            self._names.setdefault(key, name)
        if not self._names and 'categories' not in self.file.missing:
            self._note('error', 'there is no usable category', field='categories')
        if classes is not None and self._names:
            try:
                match_categories(
                    self._names, classes, category_map={}, unknown='error', where='categories'
                )
            except ValueError as error:
                self._note('error', str(error), field='categories')

    def check_videos(self) -> None:
        """Notes broken and repeated videos, and odd paths."""
        for index, entry in enumerate(self.file.videos):
            video = self._video(entry, f'videos[{index}]')
            if video is None:
                continue
            where = dict(video=video['id'], name=video['name'])
            if video['id'] in self.videos:
                self._note('error', 'video id is used twice; must be unique', **where)
                continue
            for side in ('height', 'width'):
                if video[side] is None:
                    what = 'missing; it is taken from the first frame, and boxes are not checked'
                    self._note('warning', what, field=side, **where)
            for frame, name in enumerate(video['file_names']):
                path = PurePosixPath(name)
                if path.is_absolute() or '..' in path.parts:
                    what = f'{name!r} leads out of the image folder'
                    self._note('warning', what, frame=frame, field='file_names', **where)
            self.videos[video['id']] = video

    def _video(self, entry: Any, place: str) -> dict[str, Any] | None:
        """What of a video can be used; notes what cannot."""
        reader, found = self._prober(videos=[entry]), list[dict[str, Any]]()
        if _why_refused(lambda: found.extend(reader.videos())) is None:
            self._video_ids.add(entry['id'])
            return found[0]
        if not isinstance(entry, dict):
            self._note('error', f'expected an object, got {entry!r}', entry=place)
            return None
        where: dict[str, Any] = dict(
            entry=place, video=entry.get('id'), name=_text(entry.get('name'))
        )
        usable: dict[str, Any] = dict(id=0, file_names=['0'])
        bad = set()
        for column in ('id', 'file_names', 'length', 'height', 'width'):
            if column not in entry and column not in usable:
                continue
            trial = {k: v for k, v in usable.items() if k != column}
            if column in entry:
                trial[column] = entry[column]
            what = _why_refused(self._prober(videos=[trial]).videos)
            # a length cannot be judged by a broken list of frames
            if what is None:
                usable = trial
            elif not (column == 'length' and 'file_names' in bad):
                bad.add(column)
                fixable = column == 'length' or _can_fix_id(entry.get(column))
                self._note('error', what, field=column, fixable=fixable, **where)
        self._video_ids.add(_repaired_key(entry))
        if bad & {'id', 'file_names'}:
            return None
        return self._prober(videos=[dict(usable, name=entry.get('name', ''))]).videos()[0]

    # -------------------------------------------------------------- annotations

    def check_annotations(self, batch: Sequence[Any], start: int) -> None:
        """Notes the faults of annotations that stand from ``start`` on in the file."""
        readable: list[tuple[str, dict[str, Any]]] = []
        for index, annotation in enumerate(batch, start):
            place = f'annotations[{index}]'
            if not isinstance(annotation, dict):
                self._note('error', f'expected an object, got {annotation!r}', entry=place)
                continue
            if self._knows_video(annotation):
                readable.append((place, self._with_category(annotation, place)))
            else:
                self._check_heads(annotation, place)
        unique = [(place, self._with_own_id(entry, place)) for place, entry in readable]
        bad = {place for place, _ in _bad_ones(unique, self._accepts)}
        good = []
        for place, annotation in readable:
            if place in bad:
                self._explain(annotation, place)
            else:
                good.append(annotation)
                self._annotated.add(annotation['video_id'])
                self._used_categories.add(annotation['category_id'])
        self._check_boxes(good)
        self._check_fields(good)
        self._check_masks([annotation for _, annotation in readable])

    def _knows_video(self, annotation: Mapping[str, Any]) -> bool:
        key = annotation.get('video_id')
        return isinstance(key, int) and key in self.videos

    def _with_own_id(self, annotation: dict[str, Any], place: str) -> dict[str, Any]:
        """Notes an id that is used twice, and gives the entry another one for reading."""
        key = annotation.get('id')
        if not isinstance(key, int):
            return annotation
        if key not in self._annotation_ids:
            self._annotation_ids.add(key)
            return annotation
        self._note(
            'error',
            'id is used twice; annotation ids must be unique in the file',
            entry=place, annotation=key, field='id', fixable=True, **self._video_of(annotation),
        )  # fmt: skip
        return dict(annotation, id=-1 - int(place[len('annotations[') : -1]))

    def _with_category(self, annotation: dict[str, Any], place: str) -> dict[str, Any]:
        """Notes an unknown category, and gives the entry a known one for reading."""
        key = annotation.get('category_id')
        if not _is_whole(key) or key in self._names or not self._names:
            return annotation
        if key not in self._broken_categories:  # those are noted where they stand
            self._note(
                'error', f'{key} is not among the categories', entry=place,
                annotation=annotation.get('id'), field='category_id', **self._video_of(annotation),
            )  # fmt: skip
        return dict(annotation, category_id=next(iter(self._names)))

    def _accepts(self, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
        annotations = [entry for _, entry in entries]
        videos = {entry['video_id']: self._sized_video(entry) for entry in annotations}
        return self._refusal(annotations, list(videos.values())) is None

    def _refusal(
        self, annotations: Sequence[Mapping[str, Any]], videos: Sequence[Mapping[str, Any]]
    ) -> str | None:
        reader = self._prober(annotations=annotations)
        labels = dict.fromkeys(self._names, 0)
        return _why_refused(partial(reader.instances, videos, labels))

    def _sized_video(self, annotation: Mapping[str, Any]) -> dict[str, Any]:
        video = self.videos[annotation['video_id']]
        if video['height'] is None or video['width'] is None:
            return dict(video, height=_UNKNOWN_SIDE, width=_UNKNOWN_SIDE)
        return video

    def _video_of(self, annotation: Mapping[str, Any]) -> dict[str, Any]:
        video = self.videos.get(annotation['video_id']) if self._knows_video(annotation) else None
        return dict(video=annotation.get('video_id'), name=None if video is None else video['name'])

    def _check_heads(self, annotation: Mapping[str, Any], place: str) -> None:
        """Notes broken ids; each is tried in an annotation that is otherwise right."""
        video = next(iter(self.videos.values()), None)
        category = next(iter(self._names), None)
        if video is None or category is None:
            return  # noted already: nothing can be right
        right = dict(
            id=0, video_id=video['id'], category_id=category,
            bboxes=[None] * len(video['file_names']),
        )  # fmt: skip
        sized = self._sized_video(right)
        annotation = self._with_category(dict(annotation), place)
        for column in ('id', 'video_id', 'category_id'):
            value = annotation.get(column)
            if column == 'video_id' and isinstance(value, int):
                # a broken video is noted where it stands
                what = None if value in self._video_ids else f'{value} is not among the videos'
            else:
                what = self._refusal([dict(right, **{column: value})], [sized])
            if what is not None:
                self._note(
                    'error', what, entry=place, annotation=annotation.get('id'), field=column,
                    fixable=_can_fix_id(value), **self._video_of(annotation),
                )  # fmt: skip

    def _explain(self, annotation: dict[str, Any], place: str) -> None:
        """Notes everything that is wrong with an annotation which the reader refuses."""
        before = len(self.problems)
        self._check_heads(annotation, place)
        video = self._sized_video(annotation)
        right = dict(id=0, video_id=video['id'], category_id=next(iter(self._names), 0))
        where = dict(
            entry=place, annotation=annotation.get('id'), field='bboxes',
            **self._video_of(annotation),
        )  # fmt: skip
        boxes: Any = annotation.get('bboxes')
        length = len(video['file_names'])
        whole = isinstance(boxes, list) and len(boxes) == length
        if not whole:
            trial = dict(right, bboxes=boxes)
            self._note('error', self._refusal([trial], [video]) or 'cannot be read', **where)
        elif self._names:
            frames = [f for f in range(length) if boxes[f] is not None]

            def reason(chosen: Sequence[int]) -> str | None:
                short = dict(video, file_names=[str(f) for f in chosen])
                return self._refusal([dict(right, bboxes=[boxes[f] for f in chosen])], [short])

            for frame in _bad_ones(frames, lambda chosen: reason(chosen) is None):
                what = reason([frame]) or 'cannot be read'
                self._note('error', what, frame=frame, fixable=boxes[frame] == [], **where)
        if len(self.problems) == before and self._names:
            what = self._refusal([annotation], [video]) or 'cannot be read'
            self._note('error', what, **dict(where, field=None))

    # -------------------------------------------------------------- boxes

    def _check_boxes(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        """Notes boxes that training would clip or leave out, and tracks without any."""
        owners: list[int] = []
        frames: list[int] = []
        boxes: list[Any] = []
        for owner, annotation in enumerate(annotations):
            seen = [frame for frame, box in enumerate(annotation['bboxes']) if box is not None]
            owners += [owner] * len(seen)
            frames += seen
            boxes += [annotation['bboxes'][frame] for frame in seen]
            if not seen:
                self._note_box('warning', 'has no box in any frame', annotation, None)
        self.num_objects += len(boxes)
        if not boxes:
            return
        xywh = np.array(boxes, np.float64).reshape(-1, 4)
        sized = [self._sized_video(annotation) for annotation in annotations]
        sizes = np.array([(video['width'], video['height']) for video in sized], np.float64)[owners]
        _, inside, cut = self._prober().clip_boxes(xywh, sizes)
        empty = np.any(xywh[:, 2:] == 0, axis=1)
        for index in np.flatnonzero(empty | cut | ~inside).tolist():
            annotation, frame, box = annotations[owners[index]], frames[index], boxes[index]
            width, height = (int(side) for side in sizes[index])
            if empty[index]:
                what = f'the box {box} has no area; write null where the instance is not seen'
                level: Level = 'error' if self.empty_boxes == 'error' else 'warning'
            elif not inside[index]:
                what = f'the box {box} lies outside the {width}x{height} frame: read as absent'
                level = 'warning'
            else:
                what = f'the box {box} leaves the {width}x{height} frame and is clipped to it'
                level = 'warning'
            self._note_box(level, what, annotation, frame)

    def _note_box(
        self, level: Level, what: str, annotation: Mapping[str, Any], frame: int | None
    ) -> None:
        self._note(
            level, what, frame=frame, annotation=annotation['id'], field='bboxes', fixable=True,
            **self._video_of(annotation),
        )  # fmt: skip

    def _check_fields(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        """Notes fields that contradict the video, and tracks that stand in the file twice."""
        for annotation in annotations:
            video = self.videos[annotation['video_id']]
            where = dict(annotation=annotation['id'], video=video['id'], name=video['name'])
            length = len(video['file_names'])
            for column, expected in (
                ('length', length), ('height', video['height']), ('width', video['width']),
            ):  # fmt: skip
                value = annotation.get(column)
                if value is not None and expected is not None and value != expected:
                    what = f'is {value!r}, but that of the video is {expected}'
                    self._note('warning', what, field=column, **where)
            for column in ('occlusion', 'areas'):
                value = annotation.get(column)
                if isinstance(value, list) and len(value) != length:
                    what = f'has {len(value)} entries, but the video has {length} frames'
                    self._note('warning', what, field=column, **where)
            track = hash((video['id'], annotation['category_id'], repr(annotation['bboxes'])))
            if any(annotation['bboxes']) and track in self._track_hashes:
                what = 'another annotation of this class has the same boxes'
                self._note('warning', what, field='bboxes', **where)
            self._track_hashes.add(track)

    # -------------------------------------------------------------- masks

    def _check_masks(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        """Notes masks that cannot be decoded, and frames with a mask or a box only."""
        level: Level = 'error' if self.uses_masks else 'warning'
        strings: list[tuple[str, int, dict[str, Any]]] = []
        for annotation in annotations:
            masks = annotation.get('segmentations')
            if masks is None and not self.uses_masks:
                continue
            video = self.videos[annotation['video_id']]
            where = dict(
                annotation=annotation.get('id'), field='segmentations', video=video['id'],
                name=video['name'],
            )  # fmt: skip
            length = len(video['file_names'])
            if not isinstance(masks, list) or len(masks) != length:
                got = f'{len(masks)} entries' if isinstance(masks, list) else repr(masks)[:60]
                self._note(level, f'expected a list of {length} frames, got {got}', **where)
                continue
            size = [video['height'], video['width']]
            for frame, mask in enumerate(masks):
                what = _mask_fault(mask, None if None in size else size)
                if what is not None:
                    self._note(level, what, frame=frame, **where)
                elif isinstance(mask, dict) and isinstance(mask['counts'], str):
                    strings.append((mask['counts'], math.prod(mask['size']),
                                    dict(where, frame=frame)))  # fmt: skip
            self._compare(annotation.get('bboxes'), masks, where)
        if self.mask_totals is None or not strings:
            return
        intact, pixels = self.mask_totals([text for text, _, _ in strings])
        for (_, expected, where), whole, total in zip(strings, intact, pixels, strict=True):
            if not whole:
                self._note(level, "'counts' is broken or cut off", **where)
            elif total != expected:
                self._note(level, f"'counts' covers {total} of {expected} pixels", **where)

    def _compare(self, boxes: Any, masks: Sequence[Any], where: Mapping[str, Any]) -> None:
        if not isinstance(boxes, list) or len(boxes) != len(masks):
            return
        for frame, (box, mask) in enumerate(zip(boxes, masks, strict=True)):
            if (box is None) != (mask is None):
                what = 'has a mask but no box' if box is None else 'has a box but no mask'
                self._note('warning', what, frame=frame, **dict(where, field='bboxes'))


def _mask_fault(mask: Any, size: list[int] | None) -> str | None:
    """What is wrong with one frame's mask, its string aside; ``size`` is (height, width)."""
    if mask is None:
        return None
    if isinstance(mask, list):
        corners = mask and all(
            isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and _sum_is_finite(p)
            for p in mask
        )
        return None if corners else 'a polygon needs x, y of at least three corners'
    if not isinstance(mask, dict) or not isinstance(mask.get('counts'), str | list):
        return 'expected null, a run-length with size and counts, or a list of polygons'
    given = mask.get('size')
    if not isinstance(given, list) or len(given) != 2 or not all(_is_whole(v) for v in given):
        return f"'size' must be [height, width], got {given!r}"
    if size is not None and given != size:
        return f'mask of size {given}, but the video has (height, width) {size}'
    if isinstance(mask['counts'], list):
        runs = mask['counts']
        if not all(_is_whole(run) and run >= 0 for run in runs):
            return "'counts' must be whole numbers of pixels"
        if sum(runs) != given[0] * given[1]:
            return f"'counts' covers {sum(runs)} of {given[0] * given[1]} pixels"
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _all_finite(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and math.isfinite(v) for v in values)


def _sum_is_finite(values: Sequence[Any]) -> bool:
    """Whether all are finite numbers, told by their sum: polygons have tens of millions."""
    try:
        return math.isfinite(sum(values))
    except TypeError:
        return False


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


# ------------------------------------------------------------------ frames


def check_frames(
    path: StrPath,
    img_root: StrPath,
    *,
    decode: bool = False,
    num_workers: int = 4,
    on_frame: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Looks that every frame's file is there, opens, and has the size that the file tells.

    Args:
        path: annotation file in either layout.
        img_root: folder that ``file_names`` are relative to.
        decode: decode each image, as training does, which also finds files that are cut off;
            otherwise only their first bytes are read.
        num_workers: threads.
        on_frame: told how many frames of how many are done.

    Raises:
        FileNotFoundError: if the annotation file is missing.
        AnnotationError: if it is no json object.
    """
    file = read_annotation_file(path)
    quiet = _Checker(file, [], False, 'absent', None)  # what is wrong with videos, others note
    quiet.check_videos()
    jobs = [
        (video, frame, Path(img_root, name))
        for video in quiet.videos.values()
        for frame, name in enumerate(video['file_names'])
    ]
    found = []
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        results = pool.map(partial(_frame_problem, decode=decode), jobs, chunksize=64)
        for done, problem in enumerate(results, start=1):
            if problem is not None:
                found.append(problem)
            if on_frame is not None:
                on_frame(done, len(jobs))
    return found


def _frame_problem(job: tuple[dict[str, Any], int, Path], *, decode: bool) -> Problem | None:
    video, frame, path = job
    where = dict(video=video['id'], name=video['name'], frame=frame, field='file_names')
    if not path.is_file():
        return Problem('error', f'{path} not found; check the image folder', **where)
    try:
        size = read_frame(path).shape[:2] if decode else _size_in_header(path)
    except (FrameError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Problem('error', f'{path} cannot be read: {error}', **where)
    expected = (video['height'], video['width'])
    if None not in expected and tuple(size) != expected:
        return Problem(
            'error',
            f'{path} is {size[0]}x{size[1]}, but the file says {expected[0]}x{expected[1]} '
            '(height x width); an EXIF orientation in the image swaps them',
            **where,
        )
    return None


def _size_in_header(path: Path) -> tuple[int, int]:
    """Height and width as decoded: turned where EXIF says so."""
    with Image.open(path) as image:
        width, height = image.size
        # others than JPEG would have to be decoded for it
        exif = image.getexif() if image.format == 'JPEG' else {}
        turned = exif.get(_EXIF_ORIENTATION) in _EXIF_TURNED
    return (width, height) if turned else (height, width)


# ------------------------------------------------------------------ repair


@without_gc()
def fix_dataset(path: StrPath, out: StrPath, *, on_bytes: OnBytes | None = None) -> dict[str, int]:
    """Writes a copy of an annotation file with everything repaired that has one right answer.

    Boxes are clipped to the frame; those without area, outside of it, or written as ``[]``
    become null (in COCO layout their annotation goes); annotations without any box or mask go;
    ids written as text or as a float become whole numbers; annotation ids used twice are
    numbered on; a wrong ``length`` of a video is counted anew. Everything else stays.

    Args:
        path: the file; it is not changed.
        out: the new file, written whole or not at all.
        on_bytes: told how many bytes have been read; the file is read twice.

    Returns:
        How often each repair was made.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is no json object.
        ValueError: if ``out`` is the same file.
    """
    if Path(out).exists() and Path(out).samefile(path):
        raise ValueError(f'{out} is the file itself; the repaired one needs another name')
    fixer = _Fixer()
    members: dict[str, Any] = {}
    top_id = 0
    stream = JsonStream(path, on_bytes=on_bytes)
    for key, value, position in stream:
        if position is None:
            members[key] = value
        elif key == 'annotations':
            number = _fixed_id(value.get('id')) if isinstance(value, dict) else 0
            top_id = max(top_id, number) if isinstance(number, int) else top_id
        else:
            fixed = fixer.head(key, value) if key in _HEADS else value
            members.setdefault(key, []).append(fixed)
    for key in stream.list_keys - {'annotations'}:
        members.setdefault(key, [])
    if 'annotations' in stream.list_keys:
        fixer.next_id = top_id + 1
        members['annotations'] = fixer.annotations(JsonStream(path, on_bytes=on_bytes))
    write_json_stream(out, members, allow_nan=True)
    return dict(fixer.count)


_HEADS = ('videos', 'images', 'categories')


@dataclass
class _Fixer:
    """Repairs entries and counts the repairs."""

    next_id: int = 0
    count: Counter[str] = field(default_factory=Counter)
    _sizes: dict[Any, tuple[float, float]] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    def head(self, key: str, entry: Any) -> Any:
        """A video, image or category."""
        if not isinstance(entry, dict):
            return entry
        fixed = self._ids(entry, ('id',))
        names, length = fixed.get('file_names'), fixed.get('length')
        if isinstance(names, list) and length is not None and length != len(names):
            fixed['length'] = len(names)
            self.count['length of a video counted anew'] += 1
        if key != 'categories' and isinstance(fixed.get('id'), int):
            sides = tuple(fixed.get(side) for side in ('width', 'height'))
            if _all_finite(sides):
                self._sizes[fixed['id']] = sides  # type: ignore[assignment]
        return fixed

    def annotations(self, stream: JsonStream) -> Iterator[Any]:
        """All annotations that stay."""
        for key, entry, position in stream:
            if key != 'annotations' or position is None:
                continue
            fixed = self._annotation(entry) if isinstance(entry, dict) else entry
            if fixed is not None:
                yield fixed

    def _annotation(self, entry: Mapping[str, Any]) -> dict[str, Any] | None:
        fixed = self._ids(entry, ('id', 'video_id', 'image_id', 'category_id'))
        key = fixed.get('id')
        if isinstance(key, int):
            if key in self._seen:
                fixed['id'] = key = self.next_id
                self.next_id += 1
                self.count['annotation id that was used twice numbered on'] += 1
            self._seen.add(key)
        alone = 'bbox' in fixed and 'bboxes' not in fixed
        boxes = [fixed['bbox']] if alone else fixed.get('bboxes')
        if not isinstance(boxes, list):
            return fixed
        owner = fixed.get('image_id' if alone else 'video_id')
        size = self._sizes.get(owner) if isinstance(owner, int) else None
        boxes = [self._box(box, size) for box in boxes]
        has_masks = any(fixed.get('segmentations') or [])
        if all(box is None for box in boxes) and (alone or not has_masks):
            self.count['annotation without any box left out'] += 1
            return None
        return dict(fixed, bbox=boxes[0]) if alone else dict(fixed, bboxes=boxes)

    def _box(self, box: Any, size: tuple[float, float] | None) -> Any:
        if box == []:
            self.count['box [] replaced by null'] += 1
            return None
        if not isinstance(box, list) or len(box) != 4 or not _all_finite(box):
            return box
        if box[2] < 0 or box[3] < 0:
            return box
        if box[2] == 0 or box[3] == 0:
            self.count['box without area replaced by null'] += 1
            return None
        if size is None:
            return box
        left, top = max(box[0], 0), max(box[1], 0)
        right, bottom = min(box[0] + box[2], size[0]), min(box[1] + box[3], size[1])
        if right <= left or bottom <= top:
            self.count['box outside the frame replaced by null'] += 1
            return None
        moved = (left - box[0], top - box[1], box[0] + box[2] - right, box[1] + box[3] - bottom)
        if max(moved) <= _SLACK:
            return box
        self.count['box clipped to the frame'] += 1
        return [left, top, right - left, bottom - top]

    def _ids(self, entry: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
        fixed = dict(entry)
        for column in columns:
            if _can_fix_id(fixed.get(column)):
                fixed[column] = _fixed_id(fixed[column])
                self.count['id written as text or float made a whole number'] += 1
        return fixed


def _repaired_key(entry: Any) -> int | None:
    """The id that an entry has or is meant to have."""
    key = _fixed_id(entry.get('id')) if isinstance(entry, dict) else None
    return key if isinstance(key, int) else None


def _can_fix_id(value: Any) -> bool:
    return _fixed_id(value) is not value


def _fixed_id(value: Any) -> Any:
    """The whole number that is meant by ``'7'`` or ``7.0``, else the value itself."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value)
    return value
