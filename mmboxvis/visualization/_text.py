"""Text as coverage masks, drawn with the font that matplotlib carries.

OpenCV's own font knows ASCII only and is hard to read when small.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

BGR = tuple[int, int, int]

# control characters, halves of characters, ends of lines and paragraphs
_NOT_DRAWN = ('Cc', 'Cs', 'Zl', 'Zp')


@lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', name)), size)


@lru_cache(maxsize=1024)
def text_mask(text: str, size: int, bold: bool = False) -> np.ndarray:
    """Rasters one line of text.

    Args:
        text: what to write; line breaks, tabs and other control characters become spaces.
        size: font size in pixels.
        bold: whether the bold cut is used.

    Returns:
        (h, w) uint8 coverage, read-only; ``h`` depends on ``size`` alone, so that lines of one
        size share their baseline.
    """
    font, text = _font(size, bold), _one_line(text)
    ascent, descent = font.getmetrics()
    image = Image.new('L', (_width(text, font), ascent + descent))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    mask = np.array(image)
    mask.flags.writeable = False
    return mask


def fit_text(text: str, size: int, width: int, bold: bool = False) -> str:
    """Shortens ``text`` with an ellipsis until it is at most ``width`` pixels wide."""
    font, text = _font(size, bold), _one_line(text)
    if _width(text, font) <= width:
        return text

    def shortened(length: int) -> str:
        return text[:length].rstrip() + '…'

    # the place of the first length that is too long in a range from 1 is the last that fits
    fitting = bisect_left(
        range(1, len(text)), True, key=lambda length: _width(shortened(length), font) > width
    )
    return shortened(fitting)


def _width(text: str, font: ImageFont.FreeTypeFont) -> int:
    """Of the raster of one line, in pixels."""
    return max(1, int(np.ceil(font.getlength(text))))


def _one_line(text: str) -> str:
    """The same number of characters, all of which can be drawn in one line."""
    return ''.join(' ' if unicodedata.category(c) in _NOT_DRAWN else c for c in text)


def put_mask(canvas: np.ndarray, mask: np.ndarray, x: int, y: int, color: BGR) -> None:
    """Lays ``color`` over ``canvas`` (H, W, 3), our own picture, by a coverage mask (h, w).

    What lies outside of the canvas is cut off.
    """
    top, left = max(y, 0), max(x, 0)
    bottom = min(y + mask.shape[0], canvas.shape[0])
    right = min(x + mask.shape[1], canvas.shape[1])
    if bottom <= top or right <= left:
        return
    part = canvas[top:bottom, left:right]
    cover = mask[top - y : bottom - y, left - x : right - x, None].astype(np.float32) / 255
    part[:] = np.rint(part * (1 - cover) + np.asarray(color, np.float32) * cover)
