"""A crop window that wanders over an image: a pseudo camera."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmboxvis.registry import TRANSFORMS

from .instances import replace_geometry


@TRANSFORMS.register_module()
class ClipRandomCrop(BaseTransform):
    """Crops a window of one size a clip, whose corner moves on a straight line.

    Height and width are independent uniform integers in [min(side, ``min_size``),
    min(side, ``max_size``)]. The corner goes between A, uniform over the image, and B, uniform
    between A and the bottom right, at T sorted uniform positions, in either direction (released
    program's pseudo clips; paper Sec. 3.3).

    Args:
        min_size: smallest side in pixels.
        max_size: largest side in pixels.
    """

    def __init__(self, min_size: int = 320, max_size: int = 480) -> None:
        if not 1 <= min_size <= max_size:
            raise ValueError(f'expected 1 <= min_size <= max_size, got {min_size}, {max_size}')
        self.min_size = min_size
        self.max_size = max_size

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crops frames, boxes and masks."""
        size = np.array(results['imgs'][0].shape[:2])
        low, high = np.minimum(size, self.min_size), np.minimum(size, self.max_size)
        window = np.random.randint(low, high + 1)
        corners = self._corners(size - window, len(results['imgs']))
        if (window == size).all():
            return dict(results)  # frames stay shared
        tops, lefts = corners[:, 0], corners[:, 1]
        height, width = window
        imgs = [
            np.ascontiguousarray(img[top : top + height, left : left + width])
            for img, top, left in zip(results['imgs'], tops, lefts, strict=True)
        ]
        boxes, masks = results.get('gt_bboxes'), results.get('gt_masks')
        if boxes is not None:
            boxes = boxes - np.stack([lefts, tops, lefts, tops], 1).astype(np.float32)
        if masks is not None:
            windows = [
                masks[:, t, top : top + height, left : left + width]
                for t, (top, left) in enumerate(corners)
            ]
            masks = np.stack(windows, 1)
        return replace_geometry(results, imgs, boxes, masks)

    def _corners(self, limit: np.ndarray, num_frames: int) -> np.ndarray:
        """(T, 2) top and left of the window, each within [0, ``limit``]."""
        first = np.random.randint(0, limit + 1)
        second = np.random.randint(first, limit + 1)
        share = np.sort(np.random.rand(num_frames))[:, None]
        corners = np.round(first * share + second * (1 - share)).astype(np.int64)
        return corners[::-1] if np.random.rand() < 0.5 else corners
