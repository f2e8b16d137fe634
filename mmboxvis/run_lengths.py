"""Masks as they stand in files, checked before pycocotools sees them.

A run-length string lists the runs of background and foreground in turn, beginning with
background. A number takes five bits a character, lowest first: ``'0'``..``'O'`` end a number,
``'P'``..``'o'`` say that more follow. From the fourth run on, a string holds the difference to
the run before the previous one. pycocotools trusts what it is given: it reads past the end of a
string that stops within a number, never returns from comparing masks with different numbers of
pixels or with a negative run, nor from a polygon with a corner that is not finite or far away.

Shape shorthand: S masks, R pairs of a run of background and one of foreground.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

RLE = dict[str, Any]

# characters that end a number
_CLOSING = frozenset(bytes([code]) for code in range(ord('0'), ord('P')))
_CHUNK = 1 << 17
MAX_SIDE = 65_535
"""Longest side of a frame or mask, in pixels."""
MAX_PIXELS = 200_000_000
"""Most pixels of a frame or mask that is decoded."""
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
    texts = [text if text[-1:] in _CLOSING else b'' for text in _as_bytes(counts)]
    intact = np.zeros(len(texts), bool)
    pixels = np.zeros(len(texts), np.int64)
    lengths = np.cumsum([len(text) for text in texts])
    # as much at a time as the processor's cache holds
    for part in np.split(np.arange(len(texts)), np.flatnonzero(np.diff(lengths // _CHUNK)) + 1):
        chosen = [texts[index] for index in part]
        readable = _readable(chosen)
        if not readable.all():
            part = part[readable]
            chosen = [texts[index] for index in part]
        if len(part):
            runs, first = _read_runs(chosen)
            intact[part] = np.minimum.reduceat(runs, first).min(1) >= 0
            pixels[part] = np.add.reduceat(runs, first, dtype=np.int64).sum(1)
    return RunTotals(intact, pixels * intact)


def _as_bytes(counts: Sequence[str | bytes]) -> list[bytes]:
    """The strings as bytes, empty where one has other characters than ASCII."""
    return [
        text if isinstance(text, bytes) else text.encode() if text.isascii() else b''
        for text in counts
    ]


def _codes(texts: Sequence[bytes]) -> np.ndarray:
    """(B,) uint8, all strings in a row: five bits of a number, and 32 where more follow."""
    return np.frombuffer(b''.join(texts), np.uint8) - np.uint8(ord('0'))


def _ends(texts: Sequence[bytes]) -> np.ndarray:
    """(S,) int64, where the strings end when they stand in a row."""
    return np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))


def _steps(values: np.ndarray) -> np.ndarray:
    """Each value less the one before it, the first less zero; as np.diff, with less ado."""
    steps = values.copy()
    steps[1:] -= values[:-1]
    return steps


def _long_numbers(more: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of several characters.

    Args:
        more: places of the characters after which their number goes on.

    Returns:
        For each such number how many have been before it, its first place in ``more``, and how
        many places it has there.
    """
    # all characters of a number have as many ends of numbers before them
    number = more - np.arange(len(more))
    changes = np.ones(len(more), bool)
    changes[1:] = number[1:] > number[:-1]
    begin = np.flatnonzero(changes)
    lengths = np.empty_like(begin)
    lengths[:-1] = begin[1:] - begin[:-1]
    lengths[-1:] = len(more) - begin[-1:]
    return number[begin], begin, lengths


def _readable(texts: Sequence[bytes]) -> np.ndarray:
    """(S,) bool, whether a string that ends with a number consists of some that 32 bits hold."""
    codes, ends = _codes(texts), _ends(texts)
    good = _steps(ends) > 0
    wrong = [np.flatnonzero(codes >= 64)] if codes.max(initial=0) >= 64 else []
    more = np.flatnonzero(codes >= 32)
    _, begin, lengths = _long_numbers(more)
    # the seventh character holds the bits 30 to 34, of which those from 31 on are the sign
    full = lengths == 6
    last = np.minimum(more[begin[full]] + 6, max(len(codes) - 1, 0))
    sign = (codes[last] & 31) >> 1
    beyond = (sign > 0) & (sign < 15)
    wrong += [more[begin[lengths > 6]], last[beyond]]
    good[np.searchsorted(ends, np.concatenate(wrong), side='right')] = False
    return good


def _read_runs(texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Reads all runs of S strings that are in order.

    A run beyond 32 bits comes out negative, as far as it is the first one that is.

    Returns:
        (R, 2) int32, the runs of background and foreground in turn, string after string; one
        that ends with background has a last foreground of 0. (S,) int64, the row where each
        string begins.
    """
    codes, ends = _codes(texts), _ends(texts)
    closing = codes < 32
    numbers = _steps(np.cumsum(closing, dtype=np.int64)[ends - 1])
    odd = numbers % 2 == 1
    if odd.any():
        codes = np.insert(codes, ends[odd], 0)
        closing = codes < 32
    rows = (numbers + 1) // 2
    last = np.cumsum(rows)
    first = last - rows

    # bit 16 of a number's last character is its sign
    values = ((codes << np.uint8(3)).view(np.int8) >> 3)[closing].astype(np.int32)
    more = np.flatnonzero(~closing)
    if len(more):
        _add_digits(values, codes, more)
    runs = values.reshape(-1, 2)
    # from the fourth on, a number is the difference to the run before the previous one: column
    # by column, but the first run stands apart
    heads = runs[first, 0]
    runs[first, 0] = 0
    runs[:] = np.cumsum(runs, axis=0, dtype=np.int32)
    before = np.zeros((len(first), 2), np.int32)
    before[1:] = runs[first[1:] - 1]
    runs -= np.repeat(before, rows, axis=0)
    runs[first, 0] = heads
    runs[last[odd] - 1, 1] = 0
    return runs, first


def _add_digits(values: np.ndarray, codes: np.ndarray, more: np.ndarray) -> None:
    """Puts the lower digits of long numbers to the highest one, which ``values`` holds."""
    number, begin, lengths = _long_numbers(more)
    low = np.zeros(len(number), np.int32)
    longer = np.arange(len(number))
    for digit in range(int(lengths.max())):
        code = codes[more[begin[longer] + digit]] & 31
        low[longer] |= code.astype(np.int32) << (5 * digit)
        longer = longer[lengths[longer] > digit + 1]
    values[number] = (values[number] << (5 * lengths)) | low


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
        polygons = [checked_polygon(polygon) for polygon in segmentation]
        return mask_api.merge(mask_api.frPyObjects(polygons, *size))
    _check_keys(segmentation)
    if isinstance(segmentation['counts'], list):
        height, width = _check_size_and_counts(segmentation)
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
    height, width = _check_size_and_counts(rle)
    totals = run_totals([rle['counts']])
    if not totals.intact[0]:
        raise ValueError("'counts' is broken or cut off")
    if totals.pixels[0] != height * width:
        raise ValueError(f"'counts' covers {totals.pixels[0]} of {height * width} pixels")
    return mask_api.decode(rle)


def check_mask(segmentation: Any) -> None:
    """Looks at one frame's annotation as :func:`decode` does, without making a mask of it.

    Args:
        segmentation: see :func:`compress`. A compressed string is not looked into, see
            :func:`run_totals`.

    Raises:
        ValueError: if it is no mask.
    """
    if isinstance(segmentation, list):
        for polygon in segmentation:
            checked_polygon(polygon)
    else:
        _check_keys(segmentation)
        _check_size_and_counts(segmentation)


def checked_polygon(polygon: Any) -> list[float]:
    """The polygon itself, if pycocotools can draw it in a reasonable time.

    Args:
        polygon: list ``[x0, y0, x1, y1, ...]``.

    Raises:
        ValueError: if it is no list of three corners or more, if a corner is not finite or far
            away, or if the outline is too long.
    """
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(
            'a polygon needs x, y of at least three corners, a list of at least six numbers '
            'x0, y0, x1, y1, ...'
        )
    if _is_small(polygon):
        return polygon
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


def _is_small(polygon: list[Any]) -> bool:
    """Whether a polygon is in order at a glance: most are, and an array takes six times as long."""
    try:
        # finite only if all are; what is no number cannot be added
        finite, low, high = math.isfinite(sum(polygon)), min(polygon), max(polygon)
    except (TypeError, OverflowError):
        return False
    # all may be truth values if the least is one
    if not finite or isinstance(low, bool) or low < -_MAX_COORDINATE or high > _MAX_COORDINATE:
        return False
    # no side is longer than from the least number to the largest
    return (high - low) * len(polygon) / 2 <= _MAX_PERIMETER


def _check_keys(segmentation: Any) -> None:
    if not isinstance(segmentation, dict) or not {'size', 'counts'} <= segmentation.keys():
        raise ValueError(
            "expected null, polygons or a run-length {'size': [h, w], 'counts': ...}, "
            f'got {type(segmentation).__name__}'
        )


def _check_size_and_counts(segmentation: RLE) -> tuple[int, int]:
    """Height and width of a run-length; what a compressed string says is left open."""
    height, width = _checked_size(segmentation['size'])
    counts = segmentation['counts']
    if isinstance(counts, list):
        runs = _numbers(counts, 'iu')
        if runs is None or (runs < 0).any():
            raise ValueError("'counts' must be whole numbers of pixels, or a compressed string")
        total = sum(counts)  # of Python's numbers, which do not run over
        if total != height * width:
            raise ValueError(f"'counts' covers {total} of {height * width} pixels")
    elif not isinstance(counts, str | bytes):
        raise ValueError(f"'counts' must be text or a list, got {type(counts).__name__}")
    return height, width


def _checked_size(size: Any) -> tuple[int, int]:
    good = (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in size)
    )
    if not good or size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"'size' must be [height, width], at most {MAX_PIXELS} pixels, got {str(size)[:60]}"
        )
    return size[0], size[1]


def _numbers(values: list[Any], kinds: str) -> np.ndarray | None:
    """(n,) numbers of a dtype of these kinds, or ``None`` where there is something else."""
    try:
        array = np.array(values)
    except (ValueError, OverflowError):
        return None
    return array if array.ndim == 1 and array.dtype.kind in kinds else None
