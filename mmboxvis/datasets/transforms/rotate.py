"""Turning the frames of a clip a little more from one to the next."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmboxvis.registry import TRANSFORMS

from .instances import replace_geometry


@TRANSFORMS.register_module()
class ClipRotate(BaseTransform):
    """Rotates each frame by its own angle around one centre.

    T angles are uniform in ±``max_angle``, sorted, and reversed in half of the clips. The frame
    keeps its size, what comes from outside is black. A box becomes the box around its four turned
    corners, cut to the frame, which is looser than the object; with ``box_source='mask'`` boxes
    are later taken from the turned masks (released program's pseudo clips).

    Args:
        max_angle: in degrees.
        center_range: the centre is uniform in this range of relative x and of relative y.
    """

    def __init__(
        self, max_angle: float = 15, center_range: tuple[float, float] = (0.4, 0.6)
    ) -> None:
        if max_angle < 0 or center_range[0] > center_range[1]:
            raise ValueError(f'out of range: {max_angle=}, {center_range=}')
        self.max_angle = max_angle
        self.center_range = center_range

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Rotates frames, boxes and masks."""
        imgs = results['imgs']
        height, width = imgs[0].shape[:2]
        angles = np.sort(np.random.uniform(-self.max_angle, self.max_angle, len(imgs)))
        if np.random.rand() < 0.5:
            angles = angles[::-1]
        center = np.random.uniform(*self.center_range, 2) * (width, height)
        # cv2 puts pixel centres at whole numbers
        matrices = [
            cv2.getRotationMatrix2D(tuple(center - 0.5), float(angle), 1.0) for angle in angles
        ]
        turned = [
            cv2.warpAffine(img, matrix, (width, height), flags=cv2.INTER_LINEAR)
            for img, matrix in zip(imgs, matrices, strict=True)
        ]
        boxes, masks = results.get('gt_bboxes'), results.get('gt_masks')
        if boxes is not None:
            boxes = _rotate_boxes(boxes, np.stack(matrices))
        if masks is not None:
            masks = _rotate_masks(masks, matrices)
        return replace_geometry(results, turned, boxes, masks)


def _rotate_boxes(boxes: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """(N, T, 4) boxes around the turned corners; ``matrices`` (T, 2, 3) act on pixel centres."""
    corners = boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(*boxes.shape[:2], 4, 2) - 0.5
    turned = np.einsum('tij,ntcj->ntci', matrices[..., :2], corners)
    turned = turned + matrices[None, :, None, :, 2] + 0.5
    return np.concatenate([turned.min(2), turned.max(2)], -1).astype(np.float32)


def _rotate_masks(masks: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
    size = masks.shape[:0:-1][:2]
    turned = np.zeros_like(masks)
    for n, t in zip(*np.nonzero(masks.any((2, 3))), strict=True):
        turned[n, t] = cv2.warpAffine(masks[n, t], matrices[t], size, flags=cv2.INTER_NEAREST)
    return turned
