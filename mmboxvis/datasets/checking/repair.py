"""Repairs what has one right answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmboxvis.files import StrPath

from ..json_stream import JsonStream, OnBytes, without_gc, write_json_stream
from ..video_json import BOX_SLACK, is_coordinate
from .ids import can_fix_id, fixed_id


@without_gc()
def fix_dataset(path: StrPath, out: StrPath, *, on_bytes: OnBytes | None = None) -> dict[str, int]:
    """Writes a copy of an annotation file with everything repaired that has one right answer.

    Boxes are clipped to the frame; those without area, outside of it, or written as ``[]``
    become null (in COCO layout their annotation goes); annotations without any box or mask go;
    ids written as text or as a float become whole numbers, as do sizes of videos written as text;
    annotation ids used twice are numbered on; a wrong ``length`` of a video is counted anew.
    Everything else stays.

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
            number = fixed_id(value.get('id')) if isinstance(value, dict) else 0
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
        if key != 'categories':
            for side in ('width', 'height'):
                value = fixed.get(side)
                if isinstance(value, str) and can_fix_id(value):
                    fixed[side] = fixed_id(value)
                    self.count['size written as text made a whole number'] += 1
        if key != 'categories' and isinstance(fixed.get('id'), int):
            width, height = fixed.get('width'), fixed.get('height')
            if is_coordinate(width) and is_coordinate(height) and width > 0 and height > 0:
                self._sizes[fixed['id']] = width, height
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
        masks = fixed.get('segmentations')
        has_masks = any(masks) if isinstance(masks, list) else bool(masks)
        if all(box is None for box in boxes) and (alone or not has_masks):
            self.count['annotation without any box left out'] += 1
            return None
        return dict(fixed, bbox=boxes[0]) if alone else dict(fixed, bboxes=boxes)

    def _box(self, box: Any, size: tuple[float, float] | None) -> Any:
        if box == []:
            self.count['box [] replaced by null'] += 1
            return None
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_coordinate, box)):
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
        if max(moved) <= BOX_SLACK:
            return box
        self.count['box clipped to the frame'] += 1
        return [left, top, right - left, bottom - top]

    def _ids(self, entry: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
        fixed = dict(entry)
        for column in columns:
            if can_fix_id(fixed.get(column)):
                fixed[column] = fixed_id(fixed[column])
                self.count['id written as text or float made a whole number'] += 1
        return fixed
