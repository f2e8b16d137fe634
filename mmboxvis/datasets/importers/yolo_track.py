"""YOLO text files with track ids, as ultralytics' tracker saves them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .box_set import Box, BoxSet, Collector, ReadOptions, enclosing
from .movies import need_size
from .place import AnnotationError, Place, read_names, read_rows

LastColumn = Literal['id', 'conf']
_Row = tuple[Place, list[float]]

_NAME_FILES = ('classes.txt', 'obj.names', 'labels.txt', 'data.yaml')
_MAX_SHARE = 2.0  # of the frame: an object may stand out of it, pixels are far more


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads a folder of ``<video>_<frame>.txt``, or of ``<frame>.txt`` in one folder a video.

    Rows are ``class cx cy w h [conf] id`` in shares of the frame, or with the points of a polygon
    in place of the box. What the columns are is decided over all videos; where the last may be an
    id or a confidence, the user is asked. Rows without an id are left out, unless none has one.
    Class names are the user's, else those of ``classes.txt``, ``obj.names``,
    ``labels.txt`` or ``data.yaml`` in the folder or above it.

    Raises:
        AnnotationError: if a file is broken or has no track ids.
        FileNotFoundError: if there is no label file.
    """
    collector = Collector(options)
    names = options.labels or _names_near(source)
    videos = _find(source)
    rows = {path: _read_file(path) for files in videos.values() for path in files.values()}
    columns = _columns(options.last_column, rows.values())
    tracked = False
    without: tuple[Place, str] | None = None
    for video, files in videos.items():
        first = 1 if options.first_frame is None else options.first_frame
        lowest = min(files)
        if lowest < first:
            Place(files[lowest]).fail(
                f'frame {lowest}, but frames count from {first}; if they count from {lowest}, say '
                f'so with --first-frame {lowest}'
            )
        draft = collector.video(
            video, range(first, max(files) + 1), Place(files[lowest]), first_number=first
        )
        size = need_size(draft, options, Place(files[lowest]), only=len(videos) == 1)
        for frame, path in sorted(files.items()):
            for place, row in rows.pop(path):
                number = place.whole(row[0], 'class', 0, len(names) - 1 if names else 9999)
                shares, key = _split(row, columns)
                if key is None:
                    without = without or (place, _no_id(row, columns, place))
                    collector.note('rows without a track id left out')
                    continue
                tracked = True
                draft.add(
                    place.whole(key, 'track id'),
                    names[number] if names else f'class_{number}',
                    frame - first,
                    _in_pixels(shares, size, place),
                    place,
                )
    if without is not None and not tracked:
        place, told = without
        place.fail(told)
    return collector.finish(names)


def _names_near(source: Path) -> tuple[str, ...]:
    for folder in (source, source.absolute().parent):
        for name in _NAME_FILES:
            if (folder / name).is_file():
                return read_names(folder / name)
    return ()


def _find(source: Path) -> dict[str, dict[int, Path]]:
    """Label files by video and number of the frame."""
    if not source.is_dir():
        raise FileNotFoundError(f'{source} is no folder; give the one with the label files')
    videos: dict[str, dict[int, Path]] = {}
    for path in sorted(source.rglob('*.txt')):
        parts = re.fullmatch(r'(?:(.*?)[_-])?([0-9]{1,9})', path.stem)
        if parts is None:
            if path.name not in (*_NAME_FILES, 'train.txt', 'val.txt', 'test.txt'):
                Place(path).fail('the name of a label file must end in the number of its frame')
            continue
        folder = path.parent.relative_to(source)
        if folder.name == 'labels':
            folder = folder.parent
        here = '' if folder == Path() else folder.as_posix()
        name = '/'.join(part for part in (here, parts[1]) if part)
        if here and parts[1] in (None, '', folder.name):
            name = here
        frames = videos.setdefault(name or source.absolute().name, {})
        if int(parts[2]) in frames:
            Place(path).fail(f'frame {int(parts[2])} of the video is also {frames[int(parts[2])]}')
        frames[int(parts[2])] = path
    if not videos:
        raise FileNotFoundError(f'{source} has no label file <video>_<frame>.txt in it')
    return videos


def _read_file(path: Path) -> list[_Row]:
    return [
        (place, [place.number(cell, f'column {i}') for i, cell in enumerate(cells, start=1)])
        for place, cells in read_rows(path, None)
    ]


@dataclass(frozen=True)
class _Columns:
    """What the last column is.

    Attributes:
        six: of six columns, which end in an id or a confidence.
        id_after_points: whether an odd number of columns may end in a confidence and an id; else
            it is a polygon and nothing more.
    """

    six: LastColumn
    id_after_points: bool


def _columns(told: LastColumn | None, files: Iterable[list[_Row]]) -> _Columns:
    """What the last columns are: as the user says, else as all rows together tell.

    An id is a whole number and, at least once, more than 1. In a file with seven columns, which end
    in a confidence and an id, six are a detection without an id.

    Raises:
        AnnotationError: if the last of six columns may be either.
    """
    if told is not None:
        return _Columns(told, told == 'id')
    first: Place | None = None
    six: set[float] = set()
    seven = points = False
    for rows in files:
        for place, row in rows:
            seven = seven or len(row) == 7
            points = points or (_has_points(row) and _is_id(row[-1]) and row[-1] > 1)
            if len(row) == 6:
                first = first or place
                six.add(row[5])
    if seven or any(value != int(value) for value in six):
        return _Columns('conf', points)
    if first is not None and all(0 <= value <= 1 for value in six):
        first.fail(
            'the last of six columns may be a track id or a confidence, as it is 0 or 1 in all '
            'rows of the source; say which with --last-column id or --last-column conf'
        )
    return _Columns('id', points)


def _has_points(row: Sequence[float]) -> bool:
    """Whether a row is an odd number of columns with three points at least."""
    return len(row) >= 9 and len(row) % 2 == 1


def _is_id(value: float) -> bool:
    return value >= 0 and value == int(value)


def _split(row: list[float], columns: _Columns) -> tuple[list[float], float | None]:
    """The shares and, if there is one, the id of a row of ``class, shares, [conf], [id]``."""
    count = len(row)
    if count == 7 or (count == 6 and columns.six == 'id'):
        return row[1:5], row[-1]
    # points come in pairs: an even number of columns leaves one after them, the id
    if count >= 8 and count % 2 == 0:
        return row[1:-1], row[-1]
    if _has_points(row) and columns.id_after_points and _is_id(row[-1]):
        return row[1:-2], row[-1]
    return row[1:], None


def _no_id(row: Sequence[float], columns: _Columns, place: Place) -> str:
    """What is to be said of a row without an id, if no row has one.

    Raises:
        AnnotationError: if it is no row of YOLO.
    """
    if len(row) < 5:
        place.fail(f'has {len(row)} columns, expected class cx cy w h [conf] id')
    if len(row) == 6:
        return 'ends in a confidence and has no track id; save the results of tracking'
    told = f'has {len(row)} columns and no track id; save the results of tracking'
    if _has_points(row) and _is_id(row[-1]) and not columns.id_after_points:
        told += ', or say --last-column id if the last column is one'
    return told


def _in_pixels(shares: list[float], size: tuple[int, int], place: Place) -> Box:
    width, height = size
    for share in shares:
        place.number(share, 'share of the frame', -_MAX_SHARE, _MAX_SHARE)
    if len(shares) == 4:
        cx, cy, w, h = shares
        return (cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height
    points = zip(shares[::2], shares[1::2], strict=True)
    return enclosing((x * width, y * height) for x, y in points)


def write(boxes: BoxSet) -> Iterator[tuple[str, str]]:
    """Yields ``classes.txt`` and one ``<video>/<video>_<frame>.txt`` a frame, from frame 1.

    Rows are ``class cx cy w h id``. Boxes are cut off at the edges of the frame, as programs that
    read this format refuse others.

    Raises:
        AnnotationError: if the size of a video is not known.
    """
    number_of = {name: number for number, name in enumerate(boxes.classes)}
    yield 'classes.txt', ''.join(f'{name}\n' for name in boxes.classes)
    for video in boxes.videos:
        if video.width is None or video.height is None:
            raise AnnotationError(
                f'video {video.name!r}: YOLO needs its width and height; give --size or --images'
            )
        rows: list[list[str]] = [[] for _ in video.numbers]
        for number, track in enumerate(video.tracks, start=1):
            for position, box in track.boxes.items():
                shares = _in_shares(box, (video.width, video.height))
                if shares is not None:
                    text = ' '.join(f'{share:.9f}' for share in shares)
                    rows[position].append(f'{number_of[track.label]} {text} {number}\n')
        stem = Path(video.name).name
        for position, lines in enumerate(rows):
            yield f'{video.name}/{stem}_{position + 1}.txt', ''.join(lines)


def _in_shares(box: Box, size: tuple[int, int]) -> tuple[float, ...] | None:
    """Centre and size in shares of the frame; ``None`` outside of it."""
    x, y, w, h = box
    left, right = (min(max(edge / size[0], 0), 1) for edge in (x, x + w))
    top, bottom = (min(max(edge / size[1], 0), 1) for edge in (y, y + h))
    if right <= left or bottom <= top:
        return None
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
