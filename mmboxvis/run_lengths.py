"""Masks as they stand in files, checked before pycocotools sees them.

A run-length string lists the runs of background and foreground in turn, beginning with
background. A number takes five bits a character, lowest first: ``'0'``..``'O'`` end a number,
``'P'``..``'o'`` say that more follow. From the fourth run on, a string holds the difference to
the run before the previous one. pycocotools trusts what it is given: it reads past the end of a
string that stops within a number, never returns from comparing masks with different numbers of
pixels or with a negative run, nor from a polygon with a corner that is not finite or far away.

Shape shorthand: S masks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

RLE = dict[str, Any]

# seven characters hold any 32-bit run
_NUMBERS = re.compile('(?:[P-o]{0,6}[0-O])+')
_CHUNK = 1 << 17
_MAX_SIDE = 65_535
_MAX_PIXELS = 200_000_000
# of polygons: coordinates and perimeter in pixels; pycocotools walks along the outline
_MAX_COORDINATE = 1e6
_MAX_PERIMETER = 1e6


@dataclass(frozen=True)
class RunTotals:
    """What S run-length strings add up to.

    Attributes:
        intact: (S,) bool, the string can be read and has no negative run.
        pixels: (S,) int64, sum of all runs, the image's height times width where all is well; 0
            where not intact.
    """

    intact: np.ndarray
    pixels: np.ndarray


def run_totals(counts: Sequence[str | bytes]) -> RunTotals:
    """Adds up the runs of S compressed strings without decoding a mask.

    Args:
        counts: S strings as pycocotools writes them.
    """
    texts = [text if isinstance(text, str) else text.decode('latin-1') for text in counts]
    intact = np.array([_NUMBERS.fullmatch(text) is not None for text in texts], bool)
    pixels = np.zeros(len(texts), np.int64)
    whole = np.flatnonzero(intact)
    lengths = np.cumsum([len(texts[index]) for index in whole])
    # as much at a time as the processor's cache holds
    for part in np.split(whole, np.flatnonzero(np.diff(lengths // _CHUNK)) + 1):
        if len(part):
            runs, first = _runs([texts[index].encode() for index in part])
            intact[part] = np.minimum.reduceat(runs, first) >= 0
            pixels[part] = np.add.reduceat(runs, first)
    return RunTotals(intact, pixels * intact)


def _runs(texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """All runs of well-formed strings in a row, int64, and where those of each string begin."""
    codes = np.frombuffer(b''.join(texts), np.uint8) - np.uint8(ord('0'))
    ends = np.flatnonzero(codes < 32)
    begins = np.concatenate([[0], ends[:-1] + 1])
    runs = (codes[begins] & 31).astype(np.int64)
    lengths = ends - begins
    longer = np.flatnonzero(lengths)
    for digit in range(1, int(lengths.max()) + 1):
        runs[longer] |= (codes[begins[longer] + digit] & 31).astype(np.int64) << (5 * digit)
        longer = longer[lengths[longer] > digit]
    # bit 16 of a number's last character is its sign
    negative = np.flatnonzero(codes[ends] & 16)
    runs[negative] -= 1 << (5 * (lengths[negative] + 1))
    text_ends = np.cumsum([len(text) for text in texts]) - 1
    last = np.searchsorted(ends, text_ends)
    first = np.concatenate([[0], last[:-1] + 1])
    for begin, end in zip(first, last + 1, strict=True):
        for parity in (1, 2):  # differences along the runs 1, 3, 5, ... and along 2, 4, 6, ...
            chain = runs[begin + parity : end : 2]
            np.cumsum(chain, out=chain)
    return runs, first


def compress(segmentation: RLE | list[Any], size: tuple[int, int]) -> RLE | None:
    """Turns one frame's annotation into a compressed run-length.

    Args:
        segmentation: a compressed run-length, one with ``counts`` as a list of numbers, or a list
            of polygons ``[x0, y0, x1, y1, ...]``.
        size: (height, width) of the frame, used by polygons.

    Returns:
        The run-length, or ``None`` for an empty list. The string of one that was compressed
        already is not looked into, see :func:`run_totals`.

    Raises:
        ValueError: if the annotation is none of these.
    """
    if isinstance(segmentation, list):
        if not segmentation:
            return None
        polygons = [_checked_polygon(polygon) for polygon in segmentation]
        return mask_api.merge(mask_api.frPyObjects(polygons, *size))
    if not isinstance(segmentation, dict) or not {'size', 'counts'} <= segmentation.keys():
        raise ValueError(
            "expected null, polygons or a run-length {'size': [h, w], 'counts': ...}, "
            f'got {type(segmentation).__name__}'
        )
    if isinstance(segmentation['counts'], list):
        height, width = _checked_size(segmentation['size'])
        runs = _numbers(segmentation['counts'], 'iu')
        if runs is None or (runs < 0).any():
            raise ValueError("'counts' must be whole numbers of pixels, or a compressed string")
        if int(runs.sum()) != height * width:
            raise ValueError(f"'counts' covers {int(runs.sum())} of {height * width} pixels")
        return mask_api.frPyObjects(segmentation, height, width)
    return segmentation


def decode(segmentation: RLE | list[Any], size: tuple[int, int]) -> np.ndarray | None:
    """Decodes one frame's annotation.

    Args:
        segmentation: see :func:`compress`.
        size: (height, width) of the frame, used by polygons.

    Returns:
        (h, w) uint8, of the size that a run-length has; ``None`` for an empty list.

    Raises:
        ValueError: if it is no mask.
    """
    rle = compress(segmentation, size)
    if rle is None:
        return None
    height, width = _checked_size(rle['size'])
    if not isinstance(rle['counts'], str | bytes):
        raise ValueError(f"'counts' must be text or a list, got {type(rle['counts']).__name__}")
    totals = run_totals([rle['counts']])
    if not totals.intact[0]:
        raise ValueError("'counts' is broken or cut off")
    if totals.pixels[0] != height * width:
        raise ValueError(f"'counts' covers {totals.pixels[0]} of {height * width} pixels")
    return mask_api.decode(rle)


def _checked_size(size: Any) -> tuple[int, int]:
    good = (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(isinstance(side, int) and 0 < side <= _MAX_SIDE for side in size)
    )
    if not good or size[0] * size[1] > _MAX_PIXELS:
        raise ValueError(
            f"'size' must be [height, width], at most {_MAX_PIXELS} pixels, got {str(size)[:60]}"
        )
    return size[0], size[1]


def _checked_polygon(polygon: Any) -> list[float]:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError('a polygon needs a list of at least six numbers x0, y0, x1, y1, ...')
    numbers = _numbers(polygon, 'iuf')
    # comparisons with NaN are false
    if numbers is None or not (np.abs(numbers) <= _MAX_COORDINATE).all():
        raise ValueError(
            f'coordinates of a polygon must be numbers of at most {_MAX_COORDINATE:g} pixels'
        )
    corners = numbers.reshape(-1, 2)
    steps = np.abs(corners - np.roll(corners, 1, axis=0)).max(1)
    if steps.sum() > _MAX_PERIMETER:
        raise ValueError(f'the outline of a polygon is longer than {_MAX_PERIMETER:g} pixels')
    return polygon


def _numbers(values: list[Any], kinds: str) -> np.ndarray | None:
    """(n,) numbers of a dtype of these kinds, or ``None`` where there is something else."""
    try:
        array = np.array(values)
    except (ValueError, OverflowError):
        return None
    return array if array.ndim == 1 and array.dtype.kind in kinds else None
