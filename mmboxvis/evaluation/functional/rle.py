"""Compressed COCO run-lengths: checking strings that pycocotools would trust.

A run-length string lists the runs of background and foreground in turn, beginning with
background. A number takes five bits a character, lowest first: ``'0'``..``'O'`` end a number,
``'P'``..``'o'`` say that more follow. From the fourth run on, a string holds the difference to
the run before the previous one. pycocotools reads past the end of a string that stops within a
number, and never returns from comparing masks with different numbers of pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

RLE = dict[str, Any]

# the first run and the rest; seven characters hold any 32-bit run
_RUNS = re.compile('([P-o]{0,6}[0-O])([0-o]*[0-O])?')


# pycocotools 2.0.11 counts the masks of one call in a byte
_MAX_MASKS = 255


def mask_areas(masks: Sequence[RLE]) -> np.ndarray:
    """(S,) int64 areas in pixels of S compressed run-lengths."""
    chunks = [masks[start : start + _MAX_MASKS] for start in range(0, len(masks), _MAX_MASKS)]
    areas = [mask_api.area(list(chunk)) for chunk in chunks]
    return np.concatenate([np.zeros(0), *areas]).astype(np.int64)


@dataclass(frozen=True)
class RunTotals:
    """What S run-length strings add up to.

    Attributes:
        intact: (S,) bool, the string can be read.
        pixels: (S,) int64, sum of all runs, the image's height times width where all is well; 0
            where not intact.
    """

    intact: np.ndarray
    pixels: np.ndarray


def _number(text: str) -> int:
    """Reads one signed number; bit 16 of its last character is the sign."""
    value = 0
    for character in reversed(text):
        value = value << 5 | (ord(character) - ord('0')) & 31
    negative = (ord(text[-1]) - ord('0')) & 16
    return value - (1 << (5 * len(text))) if negative else value


def run_totals(counts: Sequence[str | bytes]) -> RunTotals:
    """Adds up the runs of S compressed strings without decoding a mask.

    pycocotools adds up the runs of foreground. It does so for those of background once the first
    run is cut off and two runs of length 0 are put in its place: the two kinds then change
    places, and every difference still refers to the same run.

    Args:
        counts: S strings as pycocotools writes them.
    """
    intact = np.zeros(len(counts), dtype=bool)
    pixels = np.zeros(len(counts), dtype=np.int64)
    first: list[int] = []
    foreground: list[RLE] = []
    background: list[RLE] = []
    for index, string in enumerate(counts):
        text = string if isinstance(string, str) else string.decode('latin-1')
        runs = _RUNS.fullmatch(text)
        if runs is None:
            continue
        intact[index] = True
        first.append(_number(runs[1]))
        foreground.append(dict(size=(0, 0), counts=text))
        background.append(dict(size=(0, 0), counts='00' + (runs[2] or '')))
    pixels[intact] = (
        np.array(first, dtype=np.int64) + mask_areas(foreground) + mask_areas(background)
    )
    return RunTotals(intact, pixels)


def compress(segmentation: RLE | list[Any], size: tuple[int, int]) -> RLE | None:
    """Turns one frame's annotation into a compressed run-length.

    Args:
        segmentation: a compressed run-length, one with ``counts`` as a list of numbers, or a list
            of polygons ``[x0, y0, x1, y1, ...]``.
        size: (height, width) of the frame, used by polygons.

    Returns:
        The run-length, or ``None`` for an empty list.

    Raises:
        ValueError: if the annotation is none of these.
    """
    if isinstance(segmentation, list):
        if not segmentation:
            return None
        if not all(isinstance(polygon, list) and len(polygon) >= 6 for polygon in segmentation):
            raise ValueError('a polygon needs a list of at least six numbers x0, y0, x1, y1, ...')
        return mask_api.merge(mask_api.frPyObjects(segmentation, *size))
    if not isinstance(segmentation, dict) or not {'size', 'counts'} <= segmentation.keys():
        raise ValueError(
            "expected null, polygons or a run-length {'size': [h, w], 'counts': ...}, "
            f'got {type(segmentation).__name__}'
        )
    if isinstance(segmentation['counts'], list):
        return mask_api.frPyObjects(segmentation, *segmentation['size'])
    return segmentation
