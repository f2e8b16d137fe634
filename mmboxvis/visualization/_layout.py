"""Pictures on an evenly spaced grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ._text import BGR, fit_text, put_mask, text_mask
from .files import StrPath, write_image

_MARGIN, _GAP, _SECTION_GAP = 28, 6, 34
_TEXT_SIZE, _SMALL_SIZE, _HEADING_SIZE = 14, 12, 18


@dataclass(frozen=True)
class SheetSection:
    """A block of a contact sheet: rows of cells under one heading.

    Attributes:
        rows: pictures (h, w, 3) uint8 of any sizes, ``None`` for an empty cell; rows may differ
            in length.
        titles: one title a row, at its left; none where empty.
        column_titles: one title a column, above it; none where empty.
        heading: a line above the block; none where empty.
    """

    rows: Sequence[Sequence[np.ndarray | None]]
    titles: Sequence[str] = ()
    column_titles: Sequence[str] = ()
    heading: str = ''


@dataclass(frozen=True)
class _Theme:
    background: BGR
    ink: BGR
    faint: BGR
    empty: BGR


_LIGHT = _Theme((255, 255, 255), (32, 28, 24), (122, 116, 110), (243, 242, 241))
DARK = _Theme((27, 24, 22), (240, 238, 236), (160, 155, 150), (44, 40, 37))


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    path: StrPath | None = None,
    heading: str = '',
    cell_width: int = 288,
    dark: bool = False,
) -> np.ndarray:
    """Lays pictures out on an evenly spaced grid.

    Args:
        rows: see :class:`SheetSection` for this and the titles.
        titles: one a row.
        column_titles: one a column.
        path: where the sheet is written, whole or not at all, if given.
        heading: a line above the grid.
        cell_width: width of a cell in pixels; its height follows the tallest picture.
        dark: dark background instead of white.

    Returns:
        The sheet, (h, w, 3) uint8 BGR.

    Raises:
        ValueError: there are no cells, or more titles than rows or columns.
    """
    section = SheetSection(rows, titles, column_titles, heading)
    return stack_sections([section], path=path, cell_width=cell_width, dark=dark)


def stack_sections(
    sections: Sequence[SheetSection],
    *,
    path: StrPath | None = None,
    title: str = '',
    cell_width: int = 288,
    dark: bool = False,
) -> np.ndarray:
    """Stacks blocks of pictures into one sheet with common columns.

    Args:
        sections: at least one, with at least one cell in all.
        path: where the sheet is written, whole or not at all, if given.
        title: a line at the top of the sheet.
        cell_width: width of a cell in pixels.
        dark: dark background instead of white.

    Returns:
        The sheet, (h, w, 3) uint8 BGR.

    Raises:
        ValueError: there are no cells, or more titles than rows or columns.
    """
    for section in sections:
        _check_section(section)
    num_columns = max((len(row) for s in sections for row in s.rows), default=0)
    if not num_columns:
        raise ValueError('a contact sheet needs at least one cell')
    theme = DARK if dark else _LIGHT
    row_titles = [text for section in sections for text in section.titles]
    gutter = max((text_mask(text, _TEXT_SIZE).shape[1] + 14 for text in row_titles), default=0)
    width = 2 * _MARGIN + gutter + num_columns * cell_width + (num_columns - 1) * _GAP
    blocks = [
        _render_section(section, theme, width=width, gutter=gutter, cell_width=cell_width)
        for section in sections
    ]
    if title:
        blocks.insert(0, _line(title, theme, width, _HEADING_SIZE + 4))
    space = np.full((_SECTION_GAP, width, 3), theme.background, np.uint8)
    margin = np.full((_MARGIN, width, 3), theme.background, np.uint8)
    parts = [part for block in blocks for part in (space, block)][1:]
    sheet = np.concatenate([margin, *parts, margin])
    if path is not None:
        write_image(path, sheet)
    return sheet


def _check_section(section: SheetSection) -> None:
    num_columns = max((len(row) for row in section.rows), default=0)
    if len(section.titles) > len(section.rows):
        raise ValueError(f'{len(section.titles)} titles for {len(section.rows)} rows')
    if len(section.column_titles) > num_columns:
        raise ValueError(f'{len(section.column_titles)} column titles for {num_columns} columns')


def _line(
    text: str, theme: _Theme, width: int, size: int = _HEADING_SIZE, color: BGR | None = None
) -> np.ndarray:
    mask = text_mask(fit_text(text, size, width - 2 * _MARGIN, bold=True), size, bold=True)
    line = np.full((mask.shape[0], width, 3), theme.background, np.uint8)
    put_mask(line, mask, _MARGIN, 0, color or theme.ink)
    return line


def _render_section(
    section: SheetSection, theme: _Theme, *, width: int, gutter: int, cell_width: int
) -> np.ndarray:
    pictures = [cell for row in section.rows for cell in row if cell is not None]
    height = max((fitted_height(p, cell_width) for p in pictures), default=cell_width * 9 // 16)
    left = _MARGIN + gutter
    parts = []
    if section.heading:
        parts.append(_line(section.heading, theme, width))
        parts.append(np.full((8, width, 3), theme.background, np.uint8))
    if section.column_titles:
        strip = np.full((_SMALL_SIZE + 10, width, 3), theme.background, np.uint8)
        for column, text in enumerate(section.column_titles):
            mask = text_mask(fit_text(text, _SMALL_SIZE, cell_width), _SMALL_SIZE)
            x = left + column * (cell_width + _GAP) + (cell_width - mask.shape[1]) // 2
            put_mask(strip, mask, x, 0, theme.faint)
        parts.append(strip)
    for index, row in enumerate(section.rows):
        gap = _GAP if index + 1 < len(section.rows) else 0
        strip = np.full((height + gap, width, 3), theme.background, np.uint8)
        if index < len(section.titles):
            mask = text_mask(section.titles[index], _TEXT_SIZE)
            y = (height - mask.shape[0]) // 2
            put_mask(strip, mask, left - 14 - mask.shape[1], y, theme.ink)
        for column, cell in enumerate(row):
            x = left + column * (cell_width + _GAP)
            strip[:height, x : x + cell_width] = fit_into(cell, (height, cell_width), theme.empty)
        parts.append(strip)
    return np.concatenate(parts) if parts else np.zeros((0, width, 3), np.uint8)


def fitted_height(picture: np.ndarray, width: int) -> int:
    return max(1, round(picture.shape[0] * width / picture.shape[1]))


def fit_into(picture: np.ndarray | None, size: tuple[int, int], background: BGR) -> np.ndarray:
    """Fits a picture into (h, w) without changing its proportions."""
    cell = np.full((*size, 3), background, np.uint8)
    if picture is not None:
        scale = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
        height, width = (max(1, min(round(n * scale), s)) for n, s in zip(picture.shape, size))
        y, x = (size[0] - height) // 2, (size[1] - width) // 2
        cell[y : y + height, x : x + width] = resized(picture, (height, width))
    return cell


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if picture.shape[:2] == size:
        return picture
    smaller = size[0] < picture.shape[0]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(picture, (size[1], size[0]), interpolation=method)


def canvas_size(
    sizes: Sequence[tuple[int, int]], max_side: int, min_side: int = 480
) -> tuple[int, int]:
    """Even (height, width) that pictures of all sizes fit into; small ones are shown enlarged."""
    height = max(size[0] for size in sizes)
    width = max(size[1] for size in sizes)
    scale = min(max(1.0, min_side / min(height, width)), max_side / max(height, width))
    return 2 * max(1, round(height * scale / 2)), 2 * max(1, round(width * scale / 2))


def put_plate(picture: np.ndarray, text: np.ndarray) -> None:
    """Writes white text on a darkened plate in the lower left corner of our own picture."""
    height, width = text.shape[0] + 6, text.shape[1] + 16
    plate = picture[-height:, :width]
    plate[:] = plate * 0.35
    put_mask(picture, text, 8, picture.shape[0] - height + 3, (255, 255, 255))
