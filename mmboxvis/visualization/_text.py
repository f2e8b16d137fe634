"""Text as coverage masks, drawn with the font that matplotlib carries.

OpenCV's own font knows ASCII only and is hard to read when small.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

BGR = tuple[int, int, int]


@lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', name)), size)


@lru_cache(maxsize=1024)
def text_mask(text: str, size: int, bold: bool = False) -> np.ndarray:
    """Rasters one line of text.

    Args:
        text: what to write.
        size: font size in pixels.
        bold: whether the bold cut is used.

    Returns:
        (h, w) uint8 coverage, read-only; ``h`` depends on ``size`` alone, so that lines of one
        size share their baseline.
    """
    font = _font(size, bold)
    ascent, descent = font.getmetrics()
    width = max(1, int(np.ceil(font.getlength(text))))
    image = Image.new('L', (width, ascent + descent))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    mask = np.array(image)
    mask.flags.writeable = False
    return mask


def fit_text(text: str, size: int, width: int, bold: bool = False) -> str:
    """Shortens ``text`` with an ellipsis until it is at most ``width`` pixels wide."""
    if text_mask(text, size, bold).shape[1] <= width:
        return text
    for length in range(len(text) - 1, 0, -1):
        shortened = text[:length].rstrip() + '…'
        if text_mask(shortened, size, bold).shape[1] <= width:
            return shortened
    return '…'


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
