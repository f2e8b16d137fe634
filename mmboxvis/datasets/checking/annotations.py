"""Faults of annotations and their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from mmboxvis.files import shown

from ..video_json import EmptyBoxes, clip_xywh
from .heads import HeadChecker
from .ids import can_fix_id, is_whole
from .masks import MaskChecker
from .probing import bad_ones, why_refused
from .problems import Level

# stands for the sides of a frame where the file does not tell them; no coordinate is as large, so
# that the right and the lower edge are not checked then
_UNKNOWN_SIDE = 1 << 30


@dataclass
class AnnotationChecker:
    """Goes through annotations batch by batch and notes problems.

    Attributes:
        heads: has gone through videos and categories already.
        empty_boxes: what a box without area is.
        masks: looks into masks.
        num_objects: boxes seen so far.
    """

    heads: HeadChecker
    empty_boxes: EmptyBoxes
    masks: MaskChecker
    num_objects: int = field(default=0, init=False)
    _annotation_ids: set[int] = field(default_factory=set, init=False)
    _track_hashes: set[int] = field(default_factory=set, init=False)
    _annotated: set[int] = field(default_factory=set, init=False)
    used_categories: set[int] = field(default_factory=set, init=False)
    _can_train: bool = field(default=False, init=False)

    def check(self, batch: Sequence[Any], start: int) -> None:
        """Notes the faults of annotations that stand from ``start`` on in the file."""
        readable: list[tuple[str, dict[str, Any]]] = []
        for index, annotation in enumerate(batch, start):
            place = f'annotations[{index}]'
            if not isinstance(annotation, dict):
                self.heads.note(
                    'error', f'expected an object, got {shown(annotation)}', entry=place
                )
                continue
            if self._knows_video(annotation):
                readable.append((place, self._with_category(annotation, place)))
            else:
                self._check_heads(annotation, place)
        unique = [(place, self._with_own_id(entry, place)) for place, entry in readable]
        bad = {place for place, _ in bad_ones(unique, self._accepts)}
        good = []
        for place, annotation in readable:
            self._annotated.add(annotation['video_id'])
            if is_whole(annotation.get('category_id')):
                self.used_categories.add(annotation['category_id'])
            kept = self._explain(annotation, place) if place in bad else annotation
            if kept is not None:
                good.append(kept)
        self._check_boxes(good)
        self._check_fields(good)
        for _, annotation in readable:
            self.masks.add(annotation, self.heads.videos[annotation['video_id']])
        self.masks.finish()

    def _knows_video(self, annotation: Mapping[str, Any]) -> bool:
        key: Any = annotation.get('video_id')
        return isinstance(key, int) and key in self.heads.videos

    def _with_own_id(self, annotation: dict[str, Any], place: str) -> dict[str, Any]:
        """Notes an id that is used twice, and gives the entry another one for reading."""
        key = annotation.get('id')
        if not isinstance(key, int):
            return annotation
        if key not in self._annotation_ids:
            self._annotation_ids.add(key)
            return annotation
        self.heads.note(
            'error',
            'id is used twice; annotation ids must be unique in the file',
            entry=place, annotation=key, field='id', fixable=True, **self._video_of(annotation),
        )  # fmt: skip
        return dict(annotation, id=-1 - int(place[len('annotations[') : -1]))

    def _with_category(self, annotation: dict[str, Any], place: str) -> dict[str, Any]:
        """Notes an unknown category, and gives the entry a known one for reading."""
        key = annotation.get('category_id')
        if not is_whole(key) or key in self.heads.names or not self.heads.names:
            return annotation
        if key not in self.heads.broken_categories:  # those are noted where they stand
            self.heads.note(
                'error', f'{shown(key)} is not among the categories', entry=place,
                annotation=annotation.get('id'), field='category_id', **self._video_of(annotation),
            )  # fmt: skip
        return dict(annotation, category_id=next(iter(self.heads.names)))

    def _accepts(self, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
        annotations = [entry for _, entry in entries]
        videos = {entry['video_id']: self._sized_video(entry) for entry in annotations}
        return self._refusal(annotations, list(videos.values())) is None

    def _refusal(
        self, annotations: Sequence[Mapping[str, Any]], videos: Sequence[Mapping[str, Any]]
    ) -> str | None:
        reader = self.heads.prober(annotations=annotations)
        labels = dict.fromkeys(self.heads.names, 0)
        return why_refused(partial(reader.instances, videos, labels))

    def _sized_video(self, annotation: Mapping[str, Any]) -> dict[str, Any]:
        video = self.heads.videos[annotation['video_id']]
        if video['height'] is None or video['width'] is None:
            return dict(video, height=_UNKNOWN_SIDE, width=_UNKNOWN_SIDE)
        return video

    def _video_of(self, annotation: Mapping[str, Any]) -> dict[str, Any]:
        key: Any = annotation.get('video_id')
        known = self._knows_video(annotation)
        return dict(video=key, name=self.heads.videos[key]['name'] if known else None)

    def _check_heads(self, annotation: Mapping[str, Any], place: str) -> None:
        """Notes broken ids; each is tried in an annotation that is otherwise right."""
        video = next(iter(self.heads.videos.values()), None)
        category = next(iter(self.heads.names), None)
        if video is None or category is None:
            # nothing can be right, and why is noted already, but for a list of videos that is empty
            key: Any = annotation.get('video_id')
            if not self.heads.video_ids:
                self.heads.note(
                    'error', f'{shown(key)} is not among the videos', entry=place,
                    annotation=annotation.get('id'), field='video_id',
                )  # fmt: skip
            return
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
                what = (
                    None
                    if value in self.heads.video_ids
                    else f'{shown(value)} is not among the videos'
                )
            else:
                what = self._refusal([dict(right, **{column: value})], [sized])
            if what is not None:
                self.heads.note(
                    'error', what, entry=place, annotation=annotation.get('id'), field=column,
                    fixable=can_fix_id(value), **self._video_of(annotation),
                )  # fmt: skip

    def _explain(self, annotation: dict[str, Any], place: str) -> dict[str, Any] | None:
        """Notes everything that is wrong with an annotation which the reader refuses.

        Returns:
            What can be read of it, to be checked further; ``None`` for nothing.
        """
        before = len(self.heads.problems)
        self._check_heads(annotation, place)
        video = self._sized_video(annotation)
        right = dict(id=0, video_id=video['id'], category_id=next(iter(self.heads.names), 0))
        where = dict(
            entry=place, annotation=annotation.get('id'), field='bboxes',
            **self._video_of(annotation),
        )  # fmt: skip
        boxes: Any = annotation.get('bboxes')
        length = len(video['file_names'])
        kept: dict[str, Any] | None = None
        whole = isinstance(boxes, list) and len(boxes) == length
        if not whole:
            trial = dict(right, bboxes=boxes)
            self.heads.note('error', self._refusal([trial], [video]) or 'cannot be read', **where)
        elif self.heads.names:
            frames = [f for f in range(length) if boxes[f] is not None]

            def reason(chosen: Sequence[int]) -> str | None:
                short = dict(video, file_names=[str(f) for f in chosen])
                return self._refusal([dict(right, bboxes=[boxes[f] for f in chosen])], [short])

            wrong = list(bad_ones(frames, lambda chosen: reason(chosen) is None))
            for frame in wrong:
                what = reason([frame]) or 'cannot be read'
                self.heads.note('error', what, frame=frame, fixable=boxes[frame] == [], **where)
            left = [None if f in wrong else box for f, box in enumerate(boxes)]
            if any(left) and is_whole(annotation.get('category_id')):
                kept = dict(annotation, id=annotation.get('id'), bboxes=left)
        if len(self.heads.problems) == before and self.heads.names:
            what = self._refusal([annotation], [video]) or 'cannot be read'
            self.heads.note('error', what, **dict(where, field=None))
        return kept

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
        _, inside, cut = clip_xywh(xywh, sizes)
        empty = np.any(xywh[:, 2:] == 0, axis=1)
        self._can_train |= any(
            not annotations[owners[index]].get('iscrowd') for index in np.flatnonzero(inside)
        )
        for index in np.flatnonzero(empty | cut | ~inside).tolist():
            annotation, frame, box = annotations[owners[index]], frames[index], boxes[index]
            width, height = (int(side) for side in sizes[index])
            # of a frame without a size, the left and the upper edge are known
            size = '' if _UNKNOWN_SIDE in (width, height) else f'{width}x{height} '
            if empty[index]:
                what = f'the box {box} has no area; write null where the instance is not seen'
                level: Level = 'error' if self.empty_boxes == 'error' else 'warning'
            elif not inside[index]:
                what = f'the box {box} lies outside the {size}frame: read as absent'
                level = 'warning'
            else:
                what = f'the box {box} leaves the {size}frame and is clipped to it'
                level = 'warning'
            self._note_box(level, what, annotation, frame)

    def _note_box(
        self, level: Level, what: str, annotation: Mapping[str, Any], frame: int | None
    ) -> None:
        self.heads.note(
            level, what, frame=frame, annotation=annotation['id'], field='bboxes', fixable=True,
            **self._video_of(annotation),
        )  # fmt: skip

    def _check_fields(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        """Notes fields that contradict the video, and tracks that stand in the file twice."""
        for annotation in annotations:
            video = self.heads.videos[annotation['video_id']]
            where = dict(annotation=annotation['id'], video=video['id'], name=video['name'])
            length = len(video['file_names'])
            for column, expected in (
                ('length', length), ('height', video['height']), ('width', video['width']),
            ):  # fmt: skip
                value = annotation.get(column)
                if value is not None and expected is not None and value != expected:
                    what = f'is {shown(value)}, but that of the video is {expected}'
                    self.heads.note('warning', what, field=column, **where)
            for column in ('occlusion', 'areas'):
                value = annotation.get(column)
                if isinstance(value, list) and len(value) != length:
                    what = f'has {len(value)} entries, but the video has {length} frames'
                    self.heads.note('warning', what, field=column, **where)
            track = hash((video['id'], annotation['category_id'], repr(annotation['bboxes'])))
            if any(annotation['bboxes']) and track in self._track_hashes:
                what = 'another annotation of this class has the same boxes'
                self.heads.note('warning', what, field='bboxes', **where)
            self._track_hashes.add(track)

    def check_unused(self, need_annotations: bool) -> None:
        """Notes videos and categories without annotations, and where nothing is left to use.

        That is not said beside other errors, which may be the reason.
        """
        is_right = not any(problem.level == 'error' for problem in self.heads.problems)
        if is_right and not self.heads.videos:
            self.heads.note('error', 'there is no video', field='videos')
        if not need_annotations or 'annotations' in self.heads.file.missing:
            return
        if is_right and self.heads.videos and not self._can_train:
            what = (
                'no video is left to train on: no annotation has a box inside its frame (those of '
                'crowds do not count); a file for testing is checked with --test'
            )
            self.heads.note('error', what, field='annotations')
        for key, video in self.heads.videos.items():
            if key not in self._annotated:
                what = 'has no annotation, so training leaves it out'
                self.heads.note('warning', what, video=key, name=video['name'])
        unused = [
            f'{key} ({name})'
            for key, name in self.heads.names.items()
            if key not in self.used_categories
        ]
        if unused:
            what = f'no annotation has category {", ".join(unused)}'
            self.heads.note('warning', what, field='categories')
