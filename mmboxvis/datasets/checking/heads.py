"""Faults of lists, categories and videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmboxvis.files import shown

from ..categories import match_categories
from ..json_stream import AnnotationFile
from .ids import can_fix_id, fixed_id, repaired_key
from .probing import Prober, why_refused
from .problems import Level, Problem


@dataclass
class HeadChecker:
    """Goes through what a file holds besides annotations, and notes problems.

    Attributes:
        file: the file without its annotations.
        problems: the list that problems are added to.
        videos: the videos whose annotations can be checked, by id, as the reader gives them.
        names: the categories that can be used, by id.
        video_ids: ids of all videos, broken ones too.
        broken_categories: ids of categories that cannot be used.
    """

    file: AnnotationFile
    problems: list[Problem]
    videos: dict[int, dict[str, Any]] = field(default_factory=dict, init=False)
    names: dict[int, str] = field(default_factory=dict, init=False)
    video_ids: set[int | None] = field(default_factory=set, init=False)
    broken_categories: set[int | None] = field(default_factory=set, init=False)

    def note(self, level: Level, what: str, **where: Any) -> None:
        """Adds a problem; ``where`` is the fields of :class:`~.problems.Problem`."""
        self.problems.append(Problem(level, what, **where))

    def prober(self, **content: Any) -> Prober:
        """The reader, before some entries."""
        return Prober(path=str(self.file.path), content=content, empty_boxes='absent')

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
            self.note('error', f'null, missing, or no list; {hint}', field=key)

    def check_categories(self) -> None:
        """Notes broken and repeated categories."""
        for index, entry in enumerate(self.file.categories):
            place = f'categories[{index}]'
            what = why_refused(self.prober(categories=[entry]).categories)
            if what is not None:
                self.note(
                    'error', what, entry=place,
                    fixable=isinstance(entry, dict) and can_fix_id(entry.get('id')),
                )  # fmt: skip
                self.broken_categories.add(repaired_key(entry))
                continue
            key, name = entry['id'], entry['name']
            if not isinstance(name, str):
                self.broken_categories.add(key)
                self.note('error', f'expected text, got {shown(name)}', entry=place, field='name')
                continue
            for value, taken, column in ((key, self.names, 'id'), (name, self.names, 'name')):
                if value in (taken if column == 'id' else taken.values()):
                    self.note(
                        'error', f'{shown(value)} is used twice; must be unique', entry=place,
                        field=column,
                    )  # fmt: skip
            self.names.setdefault(key, name)
        if not self.names and 'categories' not in self.file.missing:
            self.note('error', 'there is no usable category', field='categories')

    def check_classes(self, classes: Sequence[str] | None, used: set[int] | None) -> None:
        """Notes categories that are none of the classes.

        Without ``classes`` a video set is trained on the file's own names, which must differ.

        Args:
            classes: names of the classes to train.
            used: ids of the categories that have annotations, ``None`` if the file has none.
        """
        hint = ''
        if classes is None and self.file.layout == 'video':
            classes = tuple(dict.fromkeys(self.names.values()))
            hint = '; rename one, or name the classes to train (--classes, in a config classes=)'
        if classes is not None and self.names:
            try:
                match_categories(
                    self.names,
                    classes,
                    category_map={},
                    unknown='error',
                    where='categories',
                    used=used,
                )
            except ValueError as error:
                self.note('error', f'{error}{hint}', field='categories')

    def check_videos(self) -> None:
        """Notes broken and repeated videos."""
        for index, entry in enumerate(self.file.videos):
            video = self._video(entry, f'videos[{index}]')
            if video is None:
                continue
            where = dict(video=video['id'], name=video['name'])
            if video['id'] in self.videos:
                self.note('error', 'video id is used twice; must be unique', **where)
                continue
            for side in ('height', 'width'):
                if video[side] is None and entry.get(side) is None:
                    what = 'missing; it is taken from the first frame, and boxes are not checked'
                    self.note('warning', what, field=side, **where)
            self.videos[video['id']] = video

    def _video(self, entry: Any, place: str) -> dict[str, Any] | None:
        """What of a video can be used; notes what cannot."""
        reader, found = self.prober(videos=[entry]), list[dict[str, Any]]()
        if why_refused(lambda: found.extend(reader.videos())) is None:
            self.video_ids.add(entry['id'])
            return found[0]
        if not isinstance(entry, dict):
            self.note('error', f'expected an object, got {shown(entry)}', entry=place)
            return None
        name = entry.get('name')
        where: dict[str, Any] = dict(
            entry=place, video=entry.get('id'), name=None if name is None else str(name)
        )
        usable: dict[str, Any] = dict(id=0, file_names=['0'])
        bad = set()
        for column in ('id', 'file_names', 'length', 'height', 'width'):
            if column not in entry and column not in usable:
                continue
            trial = {k: v for k, v in usable.items() if k != column}
            if column in entry:
                trial[column] = entry[column]
            what = why_refused(self.prober(videos=[trial]).videos)
            # a length cannot be judged by a broken list of frames
            if what is None:
                usable = trial
            elif not (column == 'length' and 'file_names' in bad):
                bad.add(column)
                repaired = dict(trial, **{column: fixed_id(entry.get(column))})
                fixable = column == 'length' or (
                    can_fix_id(entry.get(column))
                    and why_refused(self.prober(videos=[repaired]).videos) is None
                )
                self.note('error', what, field=column, fixable=fixable, **where)
        self.video_ids.add(repaired_key(entry))
        if bad & {'id', 'file_names'}:
            return None
        return self.prober(videos=[dict(usable, name=entry.get('name', ''))]).videos()[0]
