"""YOLO text files with track ids, as ultralytics' tracker saves them."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    in place of the box. Where the sixth of six columns may be an id or a confidence, the user is
    asked. Class names are the user's, else those of ``classes.txt``, ``obj.names``,
    ``labels.txt`` or ``data.yaml`` in the folder or above it.

    Raises:
        AnnotationError: if a file is broken or has no track ids.
        FileNotFoundError: if there is no label file.
    """
    collector = Collector(options)
    names = options.labels or _names_near(source)
    videos = _find(source)
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
        rows = {frame: _read_file(path) for frame, path in sorted(files.items())}
        last = options.last_column or _guess_last_column(rows)
        for frame, found in rows.items():
            for place, row in found:
                number = place.whole(row[0], 'class', 0, len(names) - 1 if names else 9999)
                shares, key = _split(row, last, place)
                for share in shares:
                    place.number(share, 'share of the frame', -_MAX_SHARE, _MAX_SHARE)
                draft.add(
                    place.whole(key, 'track id'),
                    names[number] if names else f'class_{number}',
                    frame - first,
                    _in_pixels(shares, size),
                    place,
                )
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


def _guess_last_column(rows: dict[int, list[_Row]]) -> LastColumn:
    """Whether the last of six columns is an id; certain if it cannot be a confidence."""
    six = [(place, row[5]) for found in rows.values() for place, row in found if len(row) == 6]
    if any(value != int(value) for _, value in six):
        return 'conf'
    if six and all(0 <= value <= 1 for _, value in six):
        six[0][0].fail(
            'the last of six columns may be a track id or a confidence; say which with '
            '--last-column id or --last-column conf'
        )
    return 'id'


def _split(row: list[float], last: LastColumn, place: Place) -> tuple[list[float], float]:
    """The shares and the id of a row of ``class, shares, [conf], [id]``."""
    count = len(row)
    if count in (6, 7):
        if count == 6 and last == 'conf':
            place.fail('ends in a confidence and has no track id; save the results of tracking')
        return row[1:5], row[-1]
    # points come in pairs: an even number of columns leaves one after them, the id
    if count >= 8 and count % 2 == 0:
        return row[1:-1], row[-1]
    if count >= 9 and row[-1] > 1:
        return row[1:-2], row[-1]
    return place.fail(f'has {count} columns and no track id; save the results of tracking')


def _in_pixels(shares: list[float], size: tuple[int, int]) -> Box:
    width, height = size
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
