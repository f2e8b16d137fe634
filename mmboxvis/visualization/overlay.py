"""Tracks drawn over frames.

Shorthand: M tracks, (H, W) the frame, colours and frames are BGR.
"""

from __future__ import annotations

import colorsys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from ._text import BGR, fit_text, put_mask, text_mask
from .tracks import RLE, decode_mask, resize_mask

ClassNames = Sequence[str] | Mapping[int, str]
Masks = np.ndarray | Sequence[RLE | np.ndarray | None]
Rect = tuple[int, int, int, int]

_GOLDEN_RATIO = 0.618033988749895
_MAX_ENLARGED = 4096
# (saturation, value) per turn: neighbours in hue differ in lightness as well
_TONES = ((0.85, 1.0), (0.62, 1.0), (0.95, 0.78))


def track_color(track_id: int) -> BGR:
    """Colour of a track: the same for an id always, far apart for ids that follow each other.

    Hues step by the golden ratio, which keeps any run of ids evenly spread over the circle.

    Args:
        track_id: any integer.

    Returns:
        (blue, green, red), each 0-255.
    """
    saturation, value = _TONES[track_id % len(_TONES)]
    hue = (0.03 + track_id * _GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(blue * 255), round(green * 255), round(red * 255)


def display_scale(size: tuple[int, int], min_side: int | None) -> int:
    """Smallest whole factor that brings the short side of (H, W) to ``min_side``.

    Less where the long side would come over 4096, which encoders of videos refuse.
    """
    if min_side is None:
        return 1
    return max(1, min(-(-min_side // min(size)), _MAX_ENLARGED // max(size)))


def draw_tracks(
    frame: np.ndarray,
    *,
    masks: Masks | None,
    boxes: np.ndarray | Sequence[Sequence[float] | None] | None = None,
    labels: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray | None = None,
    track_ids: Sequence[int] | np.ndarray | None = None,
    class_names: ClassNames,
    alpha: float = 0.5,
    trails: Sequence[np.ndarray | None] | None = None,
    min_side: int | None = 256,
    show_ids: bool = True,
) -> np.ndarray:
    """Draws fills, outlines, boxes and captions of the tracks seen in one frame.

    Large tracks are drawn first, so that small ones stay visible. Lines and text grow with the
    frame.

    Args:
        frame: (H, W, 3) uint8 BGR; it is not edited.
        masks: (M, h, w) bool, or M masks (h, w) or RLEs with ``None`` where a track is not seen.
            Masks of another size than the frame are resized to it.
        boxes: (M, 4) xyxy in pixels of ``frame``, or M boxes with ``None`` where absent; a box
            without area counts as absent.
        labels: (M,) keys of ``class_names``.
        scores: (M,), shown with two digits.
        track_ids: (M,), choose the colours; the positions where not given.
        class_names: a sequence, or a mapping such as category id to name.
        alpha: opacity of the fill, 0-1.
        trails: M arrays (k, 2) of the centres of successive frames, xy in pixels of ``frame``,
            oldest first; NaN where a track is not seen, over which no line is drawn.
        min_side: a frame whose short side is smaller is enlarged by a whole factor for display,
            see :func:`display_scale`; ``None`` keeps the size.
        show_ids: whether captions end with ``#id`` (only where ``track_ids`` are given).

    Returns:
        A new frame (H', W', 3) uint8.

    Raises:
        ValueError: the frame is not (H, W, 3) uint8, the lengths differ, or a label has no name.
    """
    _check(frame, masks, boxes, labels, scores, track_ids, trails)
    factor = display_scale(frame.shape[:2], min_side)
    canvas = _enlarged(frame, factor)
    ids = range(len(labels)) if track_ids is None else track_ids
    drawings = []
    for index, label in enumerate(labels):
        mask = None if masks is None else _mask_at(masks[index], canvas.shape[:2])
        box = None if boxes is None else _box_at(boxes[index], factor)
        if mask is None and box is None:
            continue
        caption = _class_name(class_names, int(label))
        if scores is not None:
            caption += f' {scores[index]:.2f}'
        if show_ids and track_ids is not None:
            caption += f' #{int(ids[index])}'
        trail = None if trails is None else trails[index]
        trail = None if trail is None else np.asarray(trail, np.float64) * factor
        drawings.append(_Drawing(mask, box, trail, caption, track_color(int(ids[index]))))
    drawings.sort(key=lambda drawing: -drawing.area)
    _paint(canvas, drawings, alpha)
    return canvas


def overlay_frames(
    frames: Iterable[np.ndarray],
    segmentations: Sequence[Sequence[RLE | None]] | None,
    *,
    boxes: Sequence[Sequence[np.ndarray | Sequence[float] | None]] | None = None,
    labels: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray | None = None,
    track_ids: Sequence[int] | np.ndarray | None = None,
    class_names: ClassNames,
    alpha: float = 0.5,
    trail_length: int = 0,
    show_boxes: bool = False,
    min_side: int | None = 256,
) -> Iterator[np.ndarray]:
    """Streams the frames of a video with its tracks drawn; one frame is held at a time.

    Args:
        frames: V frames (H, W, 3) uint8 BGR, all of one size.
        segmentations: M lists of V RLEs or ``None``; ``None`` where there are boxes only.
        boxes: M lists of V boxes xyxy in pixels of the frame, or ``None``.
        labels: (M,), see :func:`draw_tracks` for this and what follows.
        scores: (M,).
        track_ids: (M,).
        class_names: names of the labels.
        alpha: opacity of the fill.
        trail_length: number of earlier frames whose centres are drawn behind each track; 0 draws
            none.
        show_boxes: whether the boxes around the masks are drawn where no ``boxes`` are given.
        min_side: smallest short side of the result.

    Yields:
        One new frame for each frame.

    Raises:
        ValueError: a track is shorter than the video, or ``trail_length`` is negative.
    """
    if trail_length < 0:
        raise ValueError(f'trail_length must be at least 0, got {trail_length}')
    history: list[deque[np.ndarray]] = [deque(maxlen=trail_length + 1) for _ in labels]
    for t, frame in enumerate(frames):
        masks = None
        if segmentations is not None:
            _check_lengths(segmentations, t, 'segmentations')
            masks = [decode_mask(track[t], frame.shape[:2]) for track in segmentations]
        shown: list[Any] | None = None
        if boxes is not None:
            _check_lengths(boxes, t, 'boxes')
            shown = [track[t] for track in boxes]
        elif show_boxes and masks is not None:
            shown = [_box_around(mask) for mask in masks]
        if trail_length:
            for centres, centre in zip(history, _centres(masks, shown), strict=True):
                centres.append(np.full(2, np.nan) if centre is None else centre)
        yield draw_tracks(
            frame,
            masks=masks,
            boxes=shown,
            labels=labels,
            scores=scores,
            track_ids=track_ids,
            class_names=class_names,
            alpha=alpha,
            trails=[np.array(list(c)).reshape(-1, 2) for c in history] if trail_length else None,
            min_side=min_side,
        )


def _check_lengths(tracks: Sequence[Sequence[Any]], t: int, what: str) -> None:
    short = [index for index, track in enumerate(tracks) if len(track) <= t]
    if short:
        raise ValueError(
            f'track {short[0]} has {len(tracks[short[0]])} {what} but the video has a frame {t}; '
            'give one entry per frame, null where the track is not seen'
        )


def _box_around(mask: np.ndarray | None) -> np.ndarray | None:
    """(4,) xyxy around a mask, ``None`` where it is empty."""
    if mask is None or not mask.any():
        return None
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return np.array([x, y, x + width, y + height], dtype=np.float64)


def _centres(
    masks: Sequence[np.ndarray | None] | None, boxes: Sequence[Any] | None
) -> Iterator[np.ndarray | None]:
    """Centre xy of each track in a frame: of its mask where there are masks, else of its box."""
    if masks is not None:
        for mask in masks:
            if mask is None or not mask.any():
                yield None
            else:
                yield np.array([axis.mean() for axis in np.nonzero(mask)[::-1]])
    else:
        for box in boxes or ():
            yield None if box is None else np.asarray(box, np.float64).reshape(2, 2).mean(0)


@dataclass(frozen=True)
class _Drawing:
    """What is drawn of one track, in pixels of the canvas."""

    mask: np.ndarray | None
    box: np.ndarray | None
    trail: np.ndarray | None
    caption: str
    color: BGR

    @property
    def area(self) -> float:
        if self.mask is not None:
            return float(self.mask.sum())
        assert self.box is not None
        return float(np.prod(self.box[2:] - self.box[:2]))

    @property
    def extent(self) -> Rect:
        """Box around what is drawn, xyxy in whole pixels."""
        if self.box is not None:
            x1, y1, x2, y2 = (round(float(value)) for value in self.box)
            return x1, y1, x2, y2
        assert self.mask is not None
        x, y, width, height = cv2.boundingRect(self.mask.astype(np.uint8))
        return x, y, x + width, y + height


def _check(frame: np.ndarray, masks: Any, boxes: Any, labels: Any, *others: Any) -> None:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise ValueError(f'a frame is (H, W, 3) uint8 BGR, got {frame.shape} {frame.dtype}')
    names = ('masks', 'boxes', 'scores', 'track_ids', 'trails')
    for name, values in zip(names, (masks, boxes, *others), strict=True):
        if values is not None and len(values) != len(labels):
            raise ValueError(f'{len(labels)} labels but {len(values)} {name}: give one per track')


def _class_name(class_names: ClassNames, label: int) -> str:
    # a negative label would silently count from the end of a sequence
    known = label in class_names if isinstance(class_names, Mapping) else label >= 0
    with suppress(IndexError):
        if known:
            return str(class_names[label])
    raise ValueError(f'label {label} has no name among {len(class_names)} class names')


def _enlarged(frame: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return frame.copy()
    height, width = frame.shape[:2]
    return cv2.resize(frame, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC)


def _mask_at(mask: RLE | np.ndarray | None, size: tuple[int, int]) -> np.ndarray | None:
    if mask is not None:
        mask = resize_mask(mask, size) if isinstance(mask, np.ndarray) else decode_mask(mask, size)
    return mask if mask is not None and mask.any() else None


def _box_at(box: Any, factor: int) -> np.ndarray | None:
    if box is None:
        return None
    box = np.asarray(box, dtype=np.float64) * factor
    return box if (box[2:] > box[:2]).all() else None


def _paint(canvas: np.ndarray, drawings: Sequence[_Drawing], alpha: float) -> None:
    side = min(canvas.shape[:2])
    line = max(1, round(side / 240))
    for drawing in drawings:
        if drawing.mask is not None:
            _paint_mask(canvas, drawing.mask, drawing.color, alpha, line)
        if drawing.trail is not None:
            _paint_trail(canvas, drawing.trail, drawing.color, line)
        if drawing.box is not None:
            x1, y1, x2, y2 = drawing.extent
            # the right and lower edges belong to the next pixel
            cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), drawing.color, line + 1)
    text_size = int(np.clip(round(side / 26), 10, 40))
    taken: list[Rect] = []
    for drawing in drawings:
        taken.append(_paint_caption(canvas, drawing, text_size, line, taken))


def _paint_mask(canvas: np.ndarray, mask: np.ndarray, color: BGR, alpha: float, line: int) -> None:
    pixels = canvas[mask].astype(np.float32)
    canvas[mask] = np.rint(pixels * (1 - alpha) + np.asarray(color, np.float32) * alpha)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, color, line, cv2.LINE_AA)


def _paint_trail(canvas: np.ndarray, trail: np.ndarray, color: BGR, line: int) -> None:
    seen = np.isfinite(trail).all(-1)
    points = np.rint(np.where(seen[:, None], trail, 0)).astype(int)
    steps = [pair for pair, known in zip(pairwise(points), pairwise(seen)) if all(known)]
    # a dark rim, for the trail lies on a mask of its own colour
    for shade, rim in (((20, 20, 20), max(1, line)), (color, 0)):
        for start, end in steps:
            ends = tuple(start.tolist()), tuple(end.tolist())
            cv2.line(canvas, *ends, shade, line + 2 * rim, cv2.LINE_AA)
        for point in points[seen]:
            cv2.circle(canvas, tuple(point.tolist()), line + 1 + rim, shade, -1, cv2.LINE_AA)


def _paint_caption(
    canvas: np.ndarray, drawing: _Drawing, size: int, line: int, taken: Sequence[Rect]
) -> Rect:
    """Writes the caption on a plate above the track, or wherever there is room; returns where."""
    height, width = canvas.shape[:2]
    pad = max(2, size // 4)
    text = text_mask(fit_text(drawing.caption, size, width - 2 * pad), size)
    plate_h, plate_w = text.shape[0] + 2, text.shape[1] + 2 * pad
    x1, y1, _, y2 = drawing.extent
    x = int(np.clip(x1 - line // 2, 0, max(0, width - plate_w)))
    highest = max(0, height - plate_h)

    def place(y: int) -> Rect:
        y = int(np.clip(y, 0, highest))
        return x, y, x + plate_w, y + plate_h

    # above the track, below it, else inside it from its upper edge on down
    inside = list(range(max(y1, 0), height, plate_h)) or [y1]
    wishes = [y for y in (y1 - plate_h - line // 2, y2) if 0 <= y <= highest] + inside
    places = [place(y) for y in wishes]
    rect = next((p for p in places if not any(_overlap(p, q) for q in taken)), places[0])
    canvas[rect[1] : rect[3], rect[0] : rect[2]] = drawing.color
    blue, green, red = drawing.color
    dark = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    put_mask(canvas, text, rect[0] + pad, rect[1] + 1, (20, 20, 20) if dark else (255, 255, 255))
    return rect


def _overlap(first: Rect, second: Rect) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )
