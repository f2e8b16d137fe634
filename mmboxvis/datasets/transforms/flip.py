"""Mirroring a clip."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmboxvis.registry import TRANSFORMS

from .instances import replace_geometry
from .sharing import map_frames, map_masks


@TRANSFORMS.register_module()
class ClipRandomFlip(BaseTransform):
    """Mirrors all frames of a clip left to right, with one chance a clip.

    Args:
        prob: chance in [0, 1].
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'prob must be in [0, 1], got {prob}')
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirrors frames, boxes and masks, or hands the clip on as it is."""
        if np.random.rand() >= self.prob:
            return dict(results)
        imgs = map_frames(lambda img: cv2.flip(img, 1), results['imgs'])
        boxes, masks = results.get('gt_bboxes'), results.get('gt_masks')
        if boxes is not None:
            width = imgs[0].shape[1]
            boxes = np.stack(
                [width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], -1
            )
        if masks is not None:
            masks = map_masks(lambda part: np.ascontiguousarray(part[..., ::-1]), masks)
        return replace_geometry(results, imgs, boxes, masks)
