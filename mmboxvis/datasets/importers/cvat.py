"""Shapes of CVAT's xml, which its video and image formats share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Literal, cast
from xml.etree.ElementTree import Element

import numpy as np

from mmboxvis.run_lengths import MAX_PIXELS, MAX_SIDE

from .box_set import (
    MAX_FRAMES,
    Box,
    Collector,
    OcclusionLevel,
    enclosing,
    from_corners,
    occlusion_level,
)
from .place import MAX_COUNT, Place
from .rle import empty_mask, encode, frame_size, read_mask

Kind = Literal['box', 'ellipse', 'cuboid', 'polygon', 'mask']

SHAPES = frozenset(
    {'box', 'ellipse', 'cuboid', 'polygon', 'mask', 'polyline', 'points', 'skeleton'}
)
"""All that CVAT calls a shape. The last three do not bound an object and give no box."""

# shapes that tell the pixels of an object
_MASKS = frozenset({'mask', 'polygon'})

_FIELDS: Mapping[str, tuple[str, ...]] = {
    'box': ('xtl', 'ytl', 'xbr', 'ybr'),
    'ellipse': ('cx', 'cy', 'rx', 'ry'),
    'cuboid': tuple(
        f'{axis}{corner}{face}'
        for face in (1, 2)
        for corner in ('tl', 'bl', 'tr', 'br')
        for axis in 'xy'
    ),
}


@dataclass(frozen=True)
class TaskFrames:
    """Frames of a task: every ``step``-th picture of a video file, which CVAT counts from 0.

    Attributes:
        numbers: of the annotated frames, rising; each is among the frames of the task.
        step: from one frame of the task to the next.
    """

    numbers: tuple[int, ...]
    step: int = 1

    @property
    def length(self) -> int:
        """How many frames the task has, annotated or not."""
        return (self.numbers[-1] - self.numbers[0]) // self.step + 1

    def meta(self) -> dict[str, str]:
        """What the head of a file tells of them."""
        return dict(
            size=str(self.length),
            start_frame=str(self.numbers[0]),
            stop_frame=str(self.numbers[-1]),
            frame_filter=f'step={self.step}' if self.step > 1 else '',
        )


def task_frames(numbers: Sequence[int] | None, length: int) -> TaskFrames:
    """The smallest task that has all frames of a video.

    Args:
        numbers: index of each frame in the video file, rising; ``None`` if they are not known.
            They are not believed either if the task would be longer than any that is read.
        length: number of frames, which are counted 0, 1, 2, ... without ``numbers``.
    """
    if numbers is not None:
        steps = (second - first for first, second in pairwise(numbers))
        found = TaskFrames(tuple(numbers), math.gcd(*steps) or 1)
        if found.length <= MAX_FRAMES:
            return found
    return TaskFrames(tuple(range(length)))


@dataclass(frozen=True)
class Outline:
    """A shape that bounds an object.

    Attributes:
        kind: what the numbers are; a mask is kept as the box around it, see
            :func:`element_mask` for its pixels.
        numbers: coordinates in pixels, in the order of the xml.
        rotation: of a box or an ellipse about its centre, in degrees clockwise.
    """

    kind: Kind
    numbers: tuple[float, ...]
    rotation: float = 0.0

    def box(self) -> Box:
        """The smallest upright box around the shape."""
        if self.kind == 'ellipse':
            cx, cy, rx, ry = self.numbers
            cos, sin = _turn(self.rotation)
            dx, dy = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
            return from_corners(cx - dx, cy - dy, cx + dx, cy + dy)
        if self.kind == 'box' and self.rotation:
            left, top, right, bottom = self.numbers
            cx, cy = (left + right) / 2, (top + bottom) / 2
            cos, sin = _turn(self.rotation)
            width, height = abs(right - left), abs(bottom - top)
            dx = (width * abs(cos) + height * abs(sin)) / 2
            dy = (width * abs(sin) + height * abs(cos)) / 2
            return from_corners(cx - dx, cy - dy, cx + dx, cy + dy)
        return enclosing(zip(self.numbers[::2], self.numbers[1::2], strict=True))


def _turn(degrees: float) -> tuple[float, float]:
    """Cosine and sine, exact at right angles."""
    if degrees % 90 == 0:
        return ((1, 0), (0, 1), (-1, 0), (0, -1))[round(degrees / 90) % 4]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def between(first: Outline, second: Outline, weight: float) -> Outline:
    """The shape between two key frames, as CVAT fills it in.

    Coordinates are linear, a rotation goes along the shorter arc. Points of polygons are matched
    by the share of the outline before them, so their numbers may differ.

    Args:
        first: shape at the key frame before.
        second: shape at the key frame after.
        weight: of the second one, 0 to 1.
    """
    if first.kind == second.kind == 'polygon':
        return replace(first, numbers=_between_polygons(first, second, weight))
    if first.kind != second.kind:
        first, second = (
            Outline('box', (x, y, x + w, y + h)) for x, y, w, h in (first.box(), second.box())
        )
    numbers = zip(first.numbers, second.numbers, strict=True)
    arc = (second.rotation - first.rotation + 180) % 360 - 180
    return Outline(
        first.kind,
        tuple((1 - weight) * a + weight * b for a, b in numbers),
        first.rotation + weight * arc,
    )


def _between_polygons(first: Outline, second: Outline, weight: float) -> tuple[float, ...]:
    loops, shares = [], []
    for outline in (first, second):
        points = np.reshape(outline.numbers, (-1, 2))
        loop = np.concatenate([points, points[:1]])
        length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(loop, axis=0).T))])
        loops.append(loop)
        # a polygon shrunk to a point has no length to share
        shares.append(length / length[-1] if length[-1] else np.linspace(0, 1, len(loop)))
    at = np.unique(np.concatenate(shares))
    mixed = sum(
        part * np.stack([np.interp(at, share, loop[:, axis]) for axis in (0, 1)], axis=1)
        for part, share, loop in zip((1 - weight, weight), shares, loops, strict=True)
    )
    return tuple(np.asarray(mixed).ravel().tolist())


def read_outline(element: Element, place: Place) -> Outline | None:
    """The outline of a shape element; ``None`` for shapes that do not bound an object.

    Raises:
        AnnotationError: if an attribute is missing or no number.
    """
    kind = element.tag
    if kind == 'polygon':
        return Outline('polygon', read_points(element.get('points'), place))
    if kind == 'mask':
        return Outline('mask', _around_mask(element, place))
    if kind in _FIELDS:
        numbers = tuple(place.number(element.get(name), name) for name in _FIELDS[kind])
        if kind == 'ellipse' and min(numbers[2:]) < 0:
            place.fail('rx and ry of an ellipse must not be negative')
        rotation = place.number(element.get('rotation', '0'), 'rotation')
        return Outline(cast(Kind, kind), numbers, rotation)
    return None


def mask_size(size: tuple[int | None, int | None], place: Place) -> tuple[int, int]:
    """Height and width of a frame that masks are drawn in.

    Raises:
        AnnotationError: if they are not known, or too large for a mask.
    """
    height, width = frame_size(size, place)
    if width * height > MAX_PIXELS:
        place.fail(f'a frame of {width} x {height} pixels')
    return height, width


def element_mask(
    element: Element, size: tuple[int, int], collector: Collector, place: Place
) -> dict[str, Any]:
    """Run-lengths of the mask of a shape element, in a frame of height and width.

    Of a ``mask`` they are exact, but for what lies outside of the frame. A polygon is filled. Other
    shapes are boxes for which there is no mask, which is noted: theirs has no pixel.

    Raises:
        AnnotationError: if the shape is broken.
    """
    if element.tag == 'mask':
        return _place_window(_read_window(element, place), size)
    if element.tag not in _MASKS:
        collector.note(f'shapes of kind {element.tag} given a mask without a pixel')
    outline = read_outline(element, place)
    return empty_mask(size) if outline is None else outline_mask(outline, size, place)


def outline_mask(outline: Outline, size: tuple[int, int], place: Place) -> dict[str, Any]:
    """Run-lengths of a filled polygon; without a pixel for other outlines."""
    if outline.kind != 'polygon':
        return empty_mask(size)
    return read_mask([list(outline.numbers)], size, place)


def _place_window(window: _Window, size: tuple[int, int]) -> dict[str, Any]:
    values = np.arange(len(window.runs), dtype=np.uint8) % 2
    cut = np.repeat(values, window.runs).reshape(window.height, window.width)
    mask = np.zeros(size, np.uint8)
    # the part of the window that is in the frame, counted from either corner
    top, left = max(window.top, 0), max(window.left, 0)
    inside = cut[top - window.top :, left - window.left :][
        : max(size[0] - top, 0), : max(size[1] - left, 0)
    ]
    mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return encode(mask)


def read_points(text: str | None, place: Place) -> tuple[float, ...]:
    """Coordinates of ``x,y;x,y``, one after another."""
    if not text:
        place.fail('points are missing, expected "x,y;x,y"')
    pairs = [pair.split(',') for pair in text.strip().split(';')]
    if any(len(pair) != 2 for pair in pairs):
        place.fail('points must be written "x,y;x,y"')
    return tuple(place.number(value, 'coordinate') for pair in pairs for value in pair)


@dataclass(frozen=True)
class _Window:
    """A mask as CVAT writes it: runs, background first, row by row in a window.

    Attributes:
        left: of the window in the frame; it may lie outside.
        top: likewise.
        width: in pixels.
        height: likewise.
        runs: their lengths.
    """

    left: int
    top: int
    width: int
    height: int
    runs: tuple[int, ...]


def _read_window(element: Element, place: Place) -> _Window:
    left, top = (place.whole(element.get(name), name, -MAX_SIDE) for name in ('left', 'top'))
    width, height = (
        place.whole(element.get(name), name, 1, MAX_SIDE) for name in ('width', 'height')
    )
    if width * height > MAX_PIXELS:
        place.fail(f'a mask of {width} x {height} pixels')
    runs = [
        place.whole(run, 'run length', 0, MAX_COUNT)
        for run in (element.get('rle') or '').split(',')
    ]
    if sum(runs) != width * height:
        place.fail(f'runs cover {sum(runs)} pixels of a mask of {width} x {height}')
    return _Window(left, top, width, height, tuple(runs))


def _around_mask(element: Element, place: Place) -> tuple[float, ...]:
    """Edges around the foreground of a mask."""
    window = _read_window(element, place)
    left, top, width = window.left, window.top, window.width
    ends = list(accumulate(window.runs))
    # first and last pixel of each run of foreground
    seen = [(a, b - 1) for a, b in zip(ends[::2], ends[1::2]) if b > a]
    if not seen:
        return (left, top, left, top)
    wraps = any(a // width != b // width for a, b in seen)
    first = 0 if wraps else min(a % width for a, _ in seen)
    last = width - 1 if wraps else max(b % width for _, b in seen)
    return (
        left + first,
        top + seen[0][0] // width,
        left + last + 1,
        top + seen[-1][1] // width + 1,
    )


def read_flag(element: Element, name: str, place: Place) -> bool | None:
    """An attribute that is 0 or 1; ``None`` where it is missing."""
    value = element.get(name)
    if value is not None and value not in ('0', '1'):
        place.fail(f'{name} must be 0 or 1, got {value!r}')
    return None if value is None else value == '1'


def read_occlusion(element: Element, place: Place) -> OcclusionLevel | None:
    """Level of occlusion by the attribute ``occluded``."""
    return occlusion_level(read_flag(element, 'occluded', place))


def read_labels(meta: Element, place: Place) -> tuple[str, ...]:
    """Declared class names, without the parts of skeletons.

    Raises:
        AnnotationError: if one has control characters in it.
    """
    return tuple(
        place.at('meta').text(name, 'label')
        for label in meta.iter('label')
        if label.find('parent') is None and (name := label.findtext('name', '')).strip()
    )
