"""Resizing a clip by its short edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform

from mmboxvis.registry import TRANSFORMS

from .instances import replace_geometry
from .sharing import map_frames, map_masks

Backend = Literal['smooth', 'pillow', 'cv2']


def short_edge_size(
    size: tuple[int, int], short_edge: int, max_long: int | None
) -> tuple[int, int]:
    """(H, W) with the short edge as asked, or the long edge at most ``max_long``; aspect kept."""
    height, width = size
    scale = short_edge / min(height, width)
    if max_long is not None:
        scale = min(scale, max_long / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


@TRANSFORMS.register_module()
class ClipResizeShortEdge(BaseTransform):
    """Resizes all frames of a clip alike, to a short edge drawn once a clip (paper Sec. 4).

    Args:
        short_edges: lengths in pixels to choose from with equal chance.
        max_long: longest allowed long edge in pixels; ``None`` for no limit.
        backend: see :func:`resize_image`.
    """

    def __init__(
        self,
        short_edges: int | Sequence[int] = (320, 352, 384, 416, 448, 480, 512),
        max_long: int | None = 800,
        backend: Backend = 'smooth',
    ) -> None:
        edges = (short_edges,) if isinstance(short_edges, int) else tuple(short_edges)
        if not edges or min(edges) < 1 or (max_long is not None and max_long < 1):
            raise ValueError(f'sizes must be positive, got {short_edges=}, {max_long=}')
        if backend not in get_args(Backend):
            raise ValueError(f'backend must be one of {get_args(Backend)}, got {backend!r}')
        self.short_edges = edges
        self.max_long = max_long
        self.backend = backend

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resizes frames, boxes and masks."""
        edge = self.short_edges[np.random.randint(len(self.short_edges))]
        old = results['imgs'][0].shape[:2]
        new = short_edge_size(old, edge, self.max_long)
        if new == old:
            return dict(results)
        imgs = map_frames(lambda img: resize_image(img, new, self.backend), results['imgs'])
        boxes, masks = results.get('gt_bboxes'), results.get('gt_masks')
        if boxes is not None:
            # in float64, rounded at the end: an edge an ulp past a pixel's is in one pixel more
            boxes = boxes * np.array([new[1] / old[1], new[0] / old[0]] * 2)
        if masks is not None:
            masks = map_masks(lambda part: resize_masks(part, new), masks)
        return replace_geometry(results, imgs, boxes, masks)


def resize_image(image: np.ndarray, size: tuple[int, int], backend: Backend) -> np.ndarray:
    """Bilinear interpolation to ``size`` (H, W).

    Args:
        image: (h, w, 3) uint8.
        size: (H, W).
        backend: ``'pillow'`` smooths when shrinking, as the released program does. ``'smooth'`` is
            the same, but enlarges with OpenCV: many times faster, and a grey level differs by at
            most 1, by rounding. ``'cv2'`` never smooths, and is the fastest.
    """
    enlarges = size[0] >= image.shape[0] and size[1] >= image.shape[1]
    if backend == 'smooth':
        backend = 'cv2' if enlarges else 'pillow'
    return mmcv.imresize(image, size[::-1], backend=backend)


def resize_masks(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest neighbour by pixel centres: (N, T, H, W) to (N, T, *size)."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, masks.shape[-2:], strict=True)
    )
    return np.ascontiguousarray(masks[:, :, rows][..., columns])
