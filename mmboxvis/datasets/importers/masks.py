"""Masks: indexed PNG images (DAVIS, YouTube-VOS), and MOTS as PNG or text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pycocotools import mask as mask_utils
from scipy import ndimage

from mmboxvis.run_lengths import MAX_PIXELS

from .box_set import NO_CLASS, BoxSet, Collector, ReadOptions, VideoDraft
from .place import AnnotationError, Place, files_below, read_names, read_rows
from .rle import read_rle, rle_box

MOTS_CLASSES = ('car', 'pedestrian')
"""Classes 1 and 2 of KITTI MOTS and MOTSChallenge."""

_VOID = 255  # of 8-bit images: neither object nor background
_MOTS_BASE = 1000  # an id is class * 1000 + number
_MOTS_IGNORED = 10
_INDEXED = ('P', 'L', '1')
_WIDE = ('I;16', 'I;16B', 'I')


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads a folder of PNG images, each folder with some a video, or MOTS text files.

    In 8-bit images a value is an object, the same through the video, 0 is background and 255 is
    void; the class is ``options.label``, else
    ``object``. In 16-bit images, and in text files, ids are those of
    MOTS: class * 1000 + number, class 10 is to be ignored. Classes are named by
    ``options.labels``, else by a ``labels.txt`` beside, else car and pedestrian.

    Raises:
        AnnotationError: if a file is broken.
        FileNotFoundError: if there is none.
    """
    collector = Collector(options)
    names: dict[str, None] = {}
    if source.is_file():
        folders, texts = {}, [source]
    elif source.is_dir():
        folders = _folders(source)
        texts = [] if folders else files_below(source, '.txt')
    if not source.exists() or not (folders or texts):
        raise FileNotFoundError(f'{source} has no .png and no MOTS .txt in it')
    for folder, files in folders.items():
        known = options.labels or _names_near(folder)
        names |= dict.fromkeys(known)
        _read_folder(source, folder, files, known or MOTS_CLASSES, collector)
    for path in texts:
        if path.name != 'labels.txt':
            known = options.labels or _names_near(path.parent)
            names |= dict.fromkeys(known)
            _read_text(path, known or MOTS_CLASSES, collector)
    return collector.finish(tuple(names))


def _folders(source: Path) -> dict[Path, list[Path]]:
    """PNG files by folder, in the order of their numbers."""
    folders: dict[Path, list[Path]] = {}
    for path in files_below(source, '.png'):
        folders.setdefault(path.parent, []).append(path)
    return {folder: sorted(folders[folder], key=_order) for folder in sorted(folders)}


def _order(path: Path) -> tuple[int, str]:
    digits = re.search(r'([0-9]{1,9})$', path.stem)
    return (int(digits[1]) if digits else -1), path.name


def _names_near(folder: Path) -> tuple[str, ...]:
    for place in (folder, folder.parent):
        if (place / 'labels.txt').is_file():
            return read_names(place / 'labels.txt')
    return ()


def _read_folder(
    source: Path, folder: Path, files: list[Path], names: tuple[str, ...], collector: Collector
) -> None:
    relative = folder.relative_to(source)
    if relative.name == 'instances':  # where MOTS keeps the masks of a sequence
        relative = relative.parent
    name = source.absolute().name if relative == Path() else relative.as_posix()
    draft: VideoDraft | None = None
    for position, path in enumerate(files):
        place = Place(path)
        ids, wide = _load(path)
        size = (ids.shape[1], ids.shape[0])
        if draft is None:
            draft = collector.video(
                name,
                None,
                place,
                size=size,
                file_names=[f'{name}/{file.stem}.jpg' for file in files],
                first_number=collector.options.first_frame or 0,
            )
        elif size != (draft.video.width, draft.video.height):
            place.fail(
                f'is {size[0]} x {size[1]} pixels, but the first of the video is '
                f'{draft.video.width} x {draft.video.height}'
            )
        _add_frame(ids, wide, position, names, draft, collector, place)


def _load(path: Path) -> tuple[np.ndarray, bool]:
    """(H, W) ids, and whether the image is one of more than 8 bits."""
    place = Place(path)
    try:
        with PIL.Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                place.fail(f'is {image.width} x {image.height} pixels')
            if image.mode not in (*_INDEXED, *_WIDE):
                place.fail(
                    f'has mode {image.mode}, expected an indexed or grey image in which a value is '
                    'an object'
                )
            return np.array(image).astype(np.int32), image.mode in _WIDE
    except AnnotationError:
        raise
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        place.fail(f'not a PNG image: {error}')


def _add_frame(
    ids: np.ndarray,
    wide: bool,
    position: int,
    names: tuple[str, ...],
    draft: VideoDraft,
    collector: Collector,
    place: Place,
) -> None:
    """Adds the objects of one image. One pass finds all boxes."""
    if not 0 <= ids.min() <= ids.max() < 2**16:
        place.fail(f'has values {ids.min()} to {ids.max()}, expected 0 to {2**16 - 1}')
    for index, part in enumerate(ndimage.find_objects(ids), start=1):
        if part is None:
            continue
        if not wide and index == _VOID:
            collector.note('void regions (255) left out')
            continue
        label = _mots_label(index, names, place) if wide else collector.options.label or NO_CLASS
        if label is None:
            collector.note('regions to ignore left out')
            continue
        rows, columns = part
        box = (
            float(columns.start),
            float(rows.start),
            float(columns.stop - columns.start),
            float(rows.stop - rows.start),
        )
        mask = _encode(ids == index) if collector.options.keep_masks else None
        draft.add(index, label, position, box, place, mask=mask)


def _encode(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=[int(side) for side in rle['size']], counts=rle['counts'].decode())


def _mots_label(number: int, names: tuple[str, ...], place: Place) -> str | None:
    """Class of an id; ``None`` for a region to ignore."""
    kind = number // _MOTS_BASE
    if kind == _MOTS_IGNORED:
        return None
    if kind == 0:
        place.fail(
            f'value {number} is no id of MOTS (class * 1000 + number); save images of plain '
            'object numbers with 8 bits'
        )
    return names[kind - 1] if kind <= len(names) else f'class_{kind}'


def _read_text(path: Path, names: tuple[str, ...], collector: Collector) -> None:
    """Rows of frame, id, class, height, width and run-lengths."""
    rows = list(read_rows(path, None))
    if not rows:
        collector.note('empty files left out')
        return
    frames = [place.whole(cells[0], 'frame') for place, cells in rows]
    first = collector.options.first_frame
    if first is None:  # 0 in KITTI MOTS, 1 in MOTSChallenge
        first = min(1, *frames)
    sides = [rows[0][0].whole(cell, 'height and width', 1) for cell in rows[0][1][3:5]]
    if len(sides) != 2:
        rows[0][0].fail('expected 6 columns: frame id class height width run-lengths')
    draft = collector.video(
        path.stem,
        range(first, max(frames) + 1),
        rows[0][0],
        size=(sides[1], sides[0]),
        first_number=first,
    )
    for (place, cells), frame in zip(rows, frames, strict=True):
        if len(cells) != 6:
            place.fail(f'has {len(cells)} columns, expected 6')
        if [place.whole(cell, 'height and width', 1) for cell in cells[3:5]] != sides:
            place.fail(f'height and width differ from those of the first row, {sides}')
        mask = read_rle(cells[5], sides, place)
        number = place.whole(cells[1], 'object id', 1)
        kind = place.whole(cells[2], 'class id', 1, 10**4)
        if kind == _MOTS_IGNORED or number // _MOTS_BASE == _MOTS_IGNORED:
            collector.note('regions to ignore left out')
            continue
        label = names[kind - 1] if kind <= len(names) else f'class_{kind}'
        kept = mask if collector.options.keep_masks else None
        draft.add(number, label, frame - first, rle_box(mask), place, mask=kept)
