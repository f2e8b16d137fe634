"""Run-lengths of masks that come from outside; what is wrong with them must not reach C code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from mmboxvis.run_lengths import MAX_PIXELS, MAX_SIDE, checked_polygon, run_totals

from .box_set import Box
from .place import Place, shown


def read_rle(counts: object, size: object, place: Place) -> dict[str, Any]:
    """COCO's compressed run-lengths, checked.

    Args:
        counts: text.
        size: list of height and width.
        place: for messages.

    Returns:
        ``dict(size, counts)``.

    Raises:
        AnnotationError: if they do not describe a mask of that size.
    """
    sides = [place.whole(side, 'size of the mask', 1, MAX_SIDE) for side in _pair(size, place)]
    if sides[0] * sides[1] > MAX_PIXELS:
        place.fail(f'a mask of {sides[1]} x {sides[0]} pixels')
    if isinstance(counts, str):
        totals = run_totals([counts])
        if not totals.intact[0]:
            place.fail(
                'run-lengths are cut off, have a negative run, or are no compressed run-lengths '
                'of COCO'
            )
    if not isinstance(counts, str) or totals.pixels[0] != sides[0] * sides[1]:
        place.fail(f'run-lengths do not fill a mask of {sides[1]} x {sides[0]} pixels')
    return dict(size=sides, counts=counts)


def read_mask(mask: object, size: tuple[int, int], place: Place) -> dict[str, Any]:
    """Compressed run-lengths of a mask in any of COCO's three forms, checked.

    Args:
        mask: polygons, or ``dict(size, counts)`` with a list of run-lengths or with text.
        size: height and width of the frame, which the mask must have.
        place: for messages.

    Raises:
        AnnotationError: if it is none of them, or of another size.
    """
    if isinstance(mask, list):
        if size[0] * size[1] > MAX_PIXELS:
            place.fail(f'a frame of {size[1]} x {size[0]} pixels')
        polygons = [_polygon(points, place) for points in mask]
        if not polygons:
            place.fail('a mask without polygons')
        return _as_text(mask_utils.merge(mask_utils.frPyObjects(polygons, *size)))
    table = place.table(mask, 'a mask')
    if table.get('size') != list(size):
        place.fail(f'a mask of size {shown(table.get("size"))} in a frame of {list(size)}')
    counts = table.get('counts')
    if isinstance(counts, bytes):
        counts = counts.decode('latin1')
    if isinstance(counts, list):
        runs = [place.whole(run, 'a run-length') for run in counts]
        if sum(runs) != size[0] * size[1] or sum(runs) > MAX_PIXELS:
            place.fail(f'run-lengths do not fill a mask of {size[1]} x {size[0]} pixels')
        return _as_text(mask_utils.frPyObjects(dict(size=list(size), counts=runs), *size))
    return read_rle(counts, list(size), place)


def _polygon(points: object, place: Place) -> list[float]:
    numbers = [
        place.number(value, 'a number of a polygon') for value in place.items(points, 'polygon')
    ]
    try:
        return checked_polygon(numbers)
    except ValueError as error:
        place.fail(str(error))


def _as_text(mask: dict[str, Any]) -> dict[str, Any]:
    return dict(size=list(mask['size']), counts=mask['counts'].decode('ascii'))


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Run-lengths of a (H, W) mask of zeros and ones."""
    return _as_text(mask_utils.encode(np.asfortranarray(mask, np.uint8)))


def empty_mask(size: tuple[int, int]) -> dict[str, Any]:
    """Run-lengths of a mask of height and width without a pixel in it."""
    runs = dict(size=list(size), counts=[size[0] * size[1]])
    return _as_text(mask_utils.frPyObjects(runs, *size))


def frame_size(
    size: tuple[int | None, int | None], place: Place, what: str = ''
) -> tuple[int, int]:
    """Height and width of a frame, which masks need.

    Args:
        size: width and height, ``None`` where they are not known.
        place: of the mask.
        what: begins the message.

    Raises:
        AnnotationError: if they are not known.
    """
    width, height = size
    if width is None or height is None:
        place.fail(f'{what}the size of the frames is not known; give it with --size')
    return height, width


def join_masks(masks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One mask over all of some checked masks of one size."""
    return _as_text(mask_utils.merge(list(masks)))


def rle_box(mask: dict[str, Any]) -> Box:
    """The box around a checked mask; without area if the mask is empty."""
    x, y, w, h = mask_utils.toBbox(mask).tolist()
    return x, y, w, h


def _pair(size: object, place: Place) -> list[Any]:
    return place.items(size, 'size of the mask', 2)
