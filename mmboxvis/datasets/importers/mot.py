"""MOTChallenge: ``gt.txt`` with ``seqinfo.ini`` and ``labels.txt``."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from .box_set import VISIBILITY, BoxSet, Collector, ReadOptions, occlusion_level
from .place import AnnotationError, Place, read_names, read_rows, read_text

MOT_CLASSES = (
    'pedestrian', 'person_on_vehicle', 'car', 'bicycle', 'motorbike', 'non_motorized_vehicle',
    'static_person', 'distractor', 'occluder', 'occluder_on_the_ground', 'occluder_full',
    'reflection', 'crowd',
)  # fmt: skip
"""Classes 1 to 13 of MOT16, MOT17 and MOT20."""


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads a ``gt.txt``, a sequence with ``gt/gt.txt``, or a folder of sequences.

    Rows have 7 or 10 columns (MOT15: one class, pedestrian
    unless ``options.label`` says otherwise) or 9 (MOT16 and later: class and visibility).
    Rows with flag 0 and rows without a track (id -1) are left out. An object is absent from the
    frames that have no row. Columns x and y are kept as they are, or, with ``origin=1``, counted
    from 0.

    Raises:
        AnnotationError: if a file is broken.
        FileNotFoundError: if there is none.
    """
    collector = Collector(options)
    classes: list[str] = []
    for path in _find(source):
        classes += _read_sequence(path, collector)
    return collector.finish(classes)


def _find(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = sorted(source.rglob('gt/gt.txt'))
    if not found:
        raise FileNotFoundError(f'{source} is no file and has no gt/gt.txt in it')
    return found


def _read_sequence(path: Path, collector: Collector) -> tuple[str, ...]:
    options = collector.options
    root = path.absolute().parent.parent if path.parent.name == 'gt' else None
    info = _read_info(root / 'seqinfo.ini') if root and (root / 'seqinfo.ini').is_file() else {}
    place = Place(root / 'seqinfo.ini') if info and root else Place(path)
    rows = list(read_rows(path, ','))
    first = 1 if options.first_frame is None else options.first_frame
    frames = [spot.whole(cells[0], 'frame') for spot, cells in rows]
    if frames and min(frames) < first:
        spot = rows[frames.index(min(frames))][0]
        spot.fail(
            f'frame {min(frames)}, but frames count from {first}; if this file counts from '
            f'{min(frames)}, say so with --first-frame {min(frames)}'
        )
    length = max(frames, default=first) - first + 1
    if 'seqLength' in info:
        length = place.whole(info['seqLength'], 'seqLength', 1)
    sides = [place.whole(info[k], k, 1) if k in info else None for k in ('imWidth', 'imHeight')]
    fps = place.number(info['frameRate'], 'frameRate') if 'frameRate' in info else 0
    draft = collector.video(
        info.get('name') or (root.name if root else path.stem),
        range(first, first + length),
        place,
        size=(sides[0], sides[1]),
        template=f'{{video}}/{_plain(info, "imDir", "img1")}'
        f'/{{frame:06d}}{_plain(info, "imExt", ".jpg")}',
        first_number=first,
        fps=fps if fps > 0 else None,
    )
    names = options.labels or _labels_beside(path)
    used: dict[str, None] = {}
    for (spot, cells), frame in zip(rows, frames, strict=True):
        columns = len(cells)
        if columns not in (7, 9, 10):
            spot.fail(f'has {columns} columns, expected 7, 9 or 10')
        values = [spot.number(cell, f'column {i}') for i, cell in enumerate(cells[2:], start=3)]
        key = spot.whole(cells[1], 'id', -1)
        label = _label(cells, names, options, spot)
        if key == -1:
            collector.note('rows without a track (id -1) left out')
            continue
        if values[4] == 0:
            collector.note('rows to ignore (flag 0) left out')
            continue
        if not names and columns == 9:
            used[label] = None
        draft.add(
            key,
            label,
            frame - first,
            (values[0] - options.origin, values[1] - options.origin, values[2], values[3]),
            spot,
            occlusion=occlusion_level(visibility=values[6]) if columns == 9 else None,
        )
    return names or tuple(name for name in MOT_CLASSES if name in used)


def _plain(info: Mapping[str, str], name: str, default: str) -> str:
    """A part of the template, with no field in it."""
    return (info.get(name) or default).replace('{', '{{').replace('}', '}}')


def _read_info(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(read_text(path))
        return dict(parser['Sequence'])
    except (configparser.Error, KeyError) as error:
        told = ' '.join(str(error).split())
        raise AnnotationError(f'{path}: expected a section [Sequence]: {told}') from error


def _labels_beside(path: Path) -> tuple[str, ...]:
    beside = path.with_name('labels.txt')
    return read_names(beside) if beside.is_file() else ()


def _label(cells: list[str], names: tuple[str, ...], options: ReadOptions, place: Place) -> str:
    if len(cells) != 9:
        return names[0] if len(names) == 1 else options.label or MOT_CLASSES[0]
    known = names or MOT_CLASSES
    return known[place.whole(cells[7], 'class (column 8)', 1, len(known)) - 1]


def write(boxes: BoxSet) -> Iterator[tuple[str, str]]:
    """Yields ``gt/gt.txt``, ``gt/labels.txt`` and ``seqinfo.ini`` of each video.

    Rows have 9 columns: frame and id from 1, coordinates from 0, flag 1, class, visibility.
    """
    number_of = {name: number for number, name in enumerate(boxes.classes, start=1)}
    for video in boxes.videos:
        rows = sorted(
            (position + 1, number, track, box)
            for number, track in enumerate(video.tracks, start=1)
            for position, box in track.boxes.items()
        )
        lines = []
        for frame, number, track, box in rows:
            visible = VISIBILITY[track.occlusion.get(frame - 1)]
            x, y, w, h = (f'{value:.4f}'.rstrip('0').rstrip('.') for value in box)
            lines.append(f'{frame},{number},{x},{y},{w},{h},1,{number_of[track.label]},{visible}\n')
        yield f'{video.name}/gt/gt.txt', ''.join(lines)
        yield f'{video.name}/gt/labels.txt', ''.join(f'{name}\n' for name in boxes.classes)
        first = PurePosixPath(video.file_names[0])
        info = dict(
            name=video.name,
            imDir=first.parent.name or '.',
            frameRate=video.fps and f'{video.fps:g}',
            seqLength=len(video.numbers),
            imWidth=video.width,
            imHeight=video.height,
            imExt=first.suffix,
        )
        known = (f'{name}={value}\n' for name, value in info.items() if value)
        yield f'{video.name}/seqinfo.ini', '[Sequence]\n' + ''.join(known)
