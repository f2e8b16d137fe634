"""Run-lengths of masks that come from outside; what is wrong with them must not reach C code."""

from __future__ import annotations

from typing import Any

from pycocotools import mask as mask_utils

from .box_set import Box
from .place import MAX_PIXELS, MAX_SIDE, Place


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
    if not isinstance(counts, str) or sum(_runs(counts, place)) != sides[0] * sides[1]:
        place.fail(f'run-lengths do not fill a mask of {sides[1]} x {sides[0]} pixels')
    return dict(size=sides, counts=counts)


def rle_box(mask: dict[str, Any]) -> Box:
    """The box around a checked mask; without area if the mask is empty."""
    x, y, w, h = mask_utils.toBbox(mask).tolist()
    return x, y, w, h


def _pair(size: object, place: Place) -> list[Any]:
    return place.items(size, 'size of the mask', 2)


def _runs(text: str, place: Place) -> list[int]:
    """Lengths of the runs: numbers of 5 bits a character, from the third on differences."""
    runs: list[int] = []
    value = shift = 0
    for char in text:
        code = ord(char) - 48
        if not 0 <= code < 64 or shift > 30:
            place.fail('run-lengths are no compressed run-lengths of COCO')
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            if runs[-1] < 0:
                place.fail('run-lengths have a negative run')
            value = shift = 0
    if shift:
        place.fail('run-lengths are cut off')
    return runs
