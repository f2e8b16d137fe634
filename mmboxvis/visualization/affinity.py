"""Clips as they enter the network, and the pairs of points that supervise their masks.

Shapes: N instances, T frames, (H, W) the padded input; frames and colours are BGR.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from mmboxvis.models.losses.functional import color_similarity, resize_to_nodes
from mmboxvis.structures import AffinityPairs, ClipTargets

from .files import StrPath
from .overlay import ClassNames, draw_tracks
from .sheet import SheetSection, stack_sections

_CELL_WIDTH = 460
_GAP = 10
_WHITE, _DARK = (255, 255, 255), (40, 36, 32)
_SPATIAL, _TEMPORAL, _FAN = (200, 190, 40), (60, 210, 255), (250, 90, 250)
_MAX_ARROWS = 12


@dataclass(frozen=True)
class PairPoints:
    """The kept pairs of a clip as points in the picture.

    Attributes:
        instances: (K,) int64, whose pair it is.
        frames: (K, 2) int64, frame of the point and of its neighbour.
        points: (K, 2, 2) float64, x and y of both in pixels of the padded input.
        offsets: (K, 3) int64, ``(dt, dx, dy)`` of the neighbour.
    """

    instances: np.ndarray
    frames: np.ndarray
    points: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, pairs: AffinityPairs, size: tuple[int, int]) -> PairPoints:
        """Places the pairs in a padded input of ``size`` (H, W)."""
        nodes = pairs.nodes.cpu().numpy()
        n, t, row, column = np.unravel_index(nodes, pairs.shape)
        scale = np.array(size[::-1]) / np.array(pairs.working_size[::-1])
        xy = (np.stack([column, row], -1) * pairs.stride + 0.5) * scale
        ends = np.stack([pairs.first.cpu().numpy(), pairs.second.cpu().numpy()], -1)
        which = pairs.neighbor_inds.cpu().numpy()
        return cls(n[ends[:, 0]], t[ends], xy[ends], np.array(pairs.offsets).reshape(-1, 3)[which])

    def select(self, keep: np.ndarray) -> PairPoints:
        """The pairs of a mask or of indices."""
        return PairPoints(
            self.instances[keep], self.frames[keep], self.points[keep], self.offsets[keep]
        )


def lab_affinity(lab: Tensor, pairs: AffinityPairs) -> np.ndarray:
    """How alike each point is to its neighbours in the same frame, on average.

    Args:
        lab: (T, 3, H, W) CIE Lab colours of the padded frames.
        pairs: tell the grid and the neighbours.

    Returns:
        (T, rows, columns) float32 in [0, 1]: 1 in even areas, near 0 at edges; points that have
        no neighbour in the grid get 0.
    """
    colors = resize_to_nodes(lab, pairs.working_size, pairs.stride)
    rows, columns = colors.shape[-2:]
    total = colors.new_zeros((2, len(lab), rows, columns))
    for dt, dx, dy in pairs.offsets:
        if dt:
            continue
        y = slice(max(-dy, 0), rows - max(dy, 0))
        x = slice(max(-dx, 0), columns - max(dx, 0))
        y_other = slice(y.start + dy, y.stop + dy)
        x_other = slice(x.start + dx, x.stop + dx)
        alike = color_similarity(colors[..., y, x], colors[..., y_other, x_other], dim=1)
        total[:, :, y, x] += torch.stack([alike, torch.ones_like(alike)])
    return (total[0] / total[1].clamp(min=1)).cpu().numpy()


def clip_sheet(
    frames: np.ndarray,
    targets: ClipTargets,
    lab: Tensor,
    pairs: AffinityPairs,
    *,
    class_names: ClassNames,
    title: str = '',
    max_instances: int = 2,
    path: StrPath | None = None,
) -> np.ndarray:
    """A strip of the clip with its boxes, its LAB affinity, and the pairs that STPA keeps.

    The pairs are drawn on zoomed crops, the frame above, the next one below, both of the same
    part of the picture, so that arrows show how far the box centre (a cross) moved. Spatial pairs
    are short lines, the ends of temporal ones dots; some of these have an arrow. One point of
    each frame shows all its pairs.

    Args:
        frames: (T, H, W, 3) uint8, the padded input.
        targets: instances of the clip.
        lab: (T, 3, H, W).
        pairs: of these instances, see :meth:`~mmboxvis.models.losses.STPALoss.build_pairs`.
        class_names: names of the labels.
        title: a line at the top.
        max_instances: how many instances are shown zoomed, those with most temporal pairs first.
        path: where the sheet is written, whole or not at all, if given.

    Returns:
        The sheet, (h, w, 3) uint8.

    Raises:
        ValueError: if the pairs belong to another number of instances or frames.
    """
    if pairs.shape[:2] != (len(targets), len(frames)):
        raise ValueError(
            f'pairs of (N, T) = {pairs.shape[:2]} do not fit {len(targets)} instances in '
            f'{len(frames)} frames'
        )
    size = (int(frames.shape[1]), int(frames.shape[2]))
    boxes = targets.boxes.cpu().numpy() * np.tile(size[::-1], 2)
    titles = [f'frame {t}' for t in range(len(frames))]
    sections = [
        SheetSection(
            [_boxed(frames, targets, boxes, class_names)],
            column_titles=titles,
            heading='The clip as it enters the network',
        ),
        SheetSection(
            [[_heat(frame, one) for frame, one in zip(frames, lab_affinity(lab, pairs))]],
            heading='LAB affinity to the neighbours: bright inside an even area, dark at an edge',
        ),
    ]
    points = PairPoints.of(pairs, size)
    for index in _most_temporal(points, len(targets), max_instances):
        name = class_names[int(targets.labels[index])]
        own = points.select(points.instances == index)
        cells, heads = _pair_cells(frames, boxes[index], own)
        if cells:
            number = int(targets.instance_ids[index])
            heading = f'Pairs kept by STPA: {name} #{number}, {_told(own)}'
            sections.append(SheetSection([cells], column_titles=heads, heading=heading))
    return stack_sections(sections, path=path, title=title, cell_width=_CELL_WIDTH)


def _boxed(
    frames: np.ndarray, targets: ClipTargets, boxes: np.ndarray, class_names: ClassNames
) -> list[np.ndarray]:
    return [
        draw_tracks(
            frame,
            masks=None,
            boxes=boxes[:, t],
            labels=targets.labels.tolist(),
            track_ids=targets.instance_ids.tolist(),
            class_names=class_names,
        )
        for t, frame in enumerate(frames)
    ]


def _heat(frame: np.ndarray, affinity: np.ndarray) -> np.ndarray:
    """An affinity map in false colours, at the size of the frame."""
    height, width = frame.shape[:2]
    levels = cv2.applyColorMap(np.rint(affinity * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return cv2.resize(levels, (width, height), interpolation=cv2.INTER_NEAREST)


def _most_temporal(points: PairPoints, num_instances: int, number: int) -> list[int]:
    counts = np.bincount(points.instances[points.offsets[:, 0] > 0], minlength=num_instances)
    counts = counts + 1e-6 * np.bincount(points.instances, minlength=num_instances)
    return [int(i) for i in np.argsort(-counts, kind='stable')[:number] if counts[i] > 0]


def _told(points: PairPoints) -> str:
    temporal = int(np.count_nonzero(points.offsets[:, 0]))
    return f'{len(points.frames) - temporal} in their frame, {temporal} into the next'


def _pair_cells(
    frames: np.ndarray, boxes: np.ndarray, points: PairPoints
) -> tuple[list[np.ndarray | None], list[str]]:
    """One zoomed cell for each frame of an instance (boxes (T, 4)) and the frame after it."""
    present = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    window = _window(boxes[present], frames.shape[1:3])
    cells: list[np.ndarray | None] = []
    heads = []
    for t in range(len(frames)):
        after = (t + 1) % len(frames)
        own = points.select(points.frames[:, 0] == t)
        if not present[t] or not len(own.frames):
            continue
        shown = (t, after) if len(frames) > 1 else (t,)
        cells.append(_pair_cell(frames, boxes, own, window, shown))
        heads.append(f'frame {t} above, frame {after} below' if len(frames) > 1 else 'frame 0')
    return cells, heads


def _window(boxes: np.ndarray, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Corners x1, y1, x2, y2 around all boxes, with a margin."""
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    margin = 0.08 * (high - low).max() + 4
    x1, y1 = np.floor(np.maximum(low - margin, 0)).astype(int)
    x2, y2 = np.ceil(np.minimum(high + margin, size[::-1])).astype(int)
    return int(x1), int(y1), int(x2), int(y2)


def _pair_cell(
    frames: np.ndarray,
    boxes: np.ndarray,
    points: PairPoints,
    window: tuple[int, int, int, int],
    shown: tuple[int, ...],
) -> np.ndarray:
    """Zoomed crops of frames below each other, with the pairs from the first to the second."""
    x1, y1, x2, y2 = window
    zoom = _CELL_WIDTH / (x2 - x1)
    height = max(1, round((y2 - y1) * zoom))
    canvas = np.full((len(shown) * (height + _GAP) - _GAP, _CELL_WIDTH, 3), 255, np.uint8)
    for place, t in enumerate(shown):
        crop = cv2.resize(
            frames[t, y1:y2, x1:x2], (_CELL_WIDTH, height), interpolation=cv2.INTER_CUBIC
        )
        # faint, so that the points stand out
        canvas[place * (height + _GAP) :][:height] = crop // 2 + 110

    def at(xy: np.ndarray, below: np.ndarray | bool) -> np.ndarray:
        """Pixels of the canvas, whole numbers."""
        shift = np.where(np.asarray(below), height + _GAP, 0)
        moved = (xy - (x1, y1)) * zoom
        return np.rint(moved + np.stack([np.zeros_like(shift), shift], -1)).astype(int)

    for place, t in enumerate(shown):
        _draw_box(canvas, at(boxes[t].reshape(2, 2), place == 1))
    temporal = points.offsets[:, 0] > 0
    ends = at(points.points, np.stack([temporal & False, temporal], -1))
    for end in ends[~temporal]:
        cv2.line(canvas, tuple(end[0].tolist()), tuple(end[1].tolist()), _SPATIAL, 1, cv2.LINE_AA)
    for point in np.unique(ends[temporal].reshape(-1, 2), axis=0):
        cv2.circle(canvas, tuple(point.tolist()), 2, _DARK, -1, cv2.LINE_AA)
    _draw_arrows(canvas, ends[temporal], points.offsets[temporal])
    _draw_fan(canvas, ends)
    return canvas


def _draw_box(canvas: np.ndarray, corners: np.ndarray) -> None:
    """A box with a cross at its centre."""
    (x1, y1), (x2, y2) = corners.tolist()
    if x2 <= x1 or y2 <= y1:
        return
    cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), _WHITE, 2)
    center = ((x1 + x2) // 2, (y1 + y2) // 2)
    cv2.drawMarker(canvas, center, _WHITE, cv2.MARKER_CROSS, 22, 5)
    cv2.drawMarker(canvas, center, (0, 0, 220), cv2.MARKER_CROSS, 18, 2)


def _draw_arrows(canvas: np.ndarray, ends: np.ndarray, offsets: np.ndarray) -> None:
    """Arrows of a few points far apart to where the box centre took them."""
    straight = ends[(offsets[:, 1:] == 0).all(1)]
    if not len(straight):
        straight = ends
    for index in _far_apart(straight[:, 0], _MAX_ARROWS):
        start, stop = (tuple(point.tolist()) for point in straight[index])
        length = max(1.0, float(np.hypot(*(straight[index, 1] - straight[index, 0]))))
        tip = 14 / length
        cv2.arrowedLine(canvas, start, stop, _DARK, 4, cv2.LINE_AA, tipLength=tip)
        cv2.arrowedLine(canvas, start, stop, _TEMPORAL, 2, cv2.LINE_AA, tipLength=tip)


def _draw_fan(canvas: np.ndarray, ends: np.ndarray) -> None:
    """All pairs of the point that has most of them, or is nearest to the middle of those."""
    starts, counts = np.unique(ends[:, 0], axis=0, return_counts=True)
    best = starts[counts == counts.max()]
    chosen = best[np.square(best - starts.mean(0)).sum(1).argmin()]
    for start, stop in ends[(ends[:, 0] == chosen).all(1)].tolist():
        for color, width in ((_DARK, 5), (_FAN, 2)):
            cv2.line(canvas, start, stop, color, width, cv2.LINE_AA)
        cv2.circle(canvas, stop, 5, _FAN, -1, cv2.LINE_AA)
        cv2.circle(canvas, start, 6, _FAN, -1, cv2.LINE_AA)


def _far_apart(points: np.ndarray, number: int) -> list[int]:
    """Indices of up to ``number`` points (K, 2), each the farthest from those before it."""
    if not len(points):
        return []
    chosen = [int(np.square(points - points.mean(0)).sum(1).argmin())]
    nearest = np.square(points - points[chosen[0]]).sum(1)
    while len(chosen) < number and nearest.max() > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
    return chosen
