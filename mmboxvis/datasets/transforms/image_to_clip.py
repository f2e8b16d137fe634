"""An image as a clip of equal frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmboxvis.registry import TRANSFORMS

from .sharing import share_masks


@TRANSFORMS.register_module()
class ImageToClip(BaseTransform):
    """Repeats a single frame and its annotations, for the transforms after it to set apart.

    All frames are one and the same array, and so are their masks; transforms that treat the
    frames of a clip alike work on it once (:mod:`.sharing`).

    Args:
        num_frames: frames of the clip T.

    Raises:
        ValueError: if the clip already has several frames.
    """

    def __init__(self, num_frames: int = 3) -> None:
        if num_frames < 1:
            raise ValueError(f'num_frames must be at least 1, got {num_frames}')
        self.num_frames = num_frames

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Repeats everything that has a frame axis."""
        if len(results['imgs']) != 1:
            raise ValueError(
                f'{results["video_name"]}: ImageToClip wants one image, got a clip of '
                f'{len(results["imgs"])} frames; leave it out for videos'
            )
        count = self.num_frames
        repeated = dict(
            results,
            imgs=results['imgs'] * count,
            img_paths=results['img_paths'] * count,
            frame_ids=list(range(count)),
            video_length=count,
        )
        for key in ('gt_bboxes', 'gt_valid'):
            if key in results:
                repeated[key] = np.repeat(results[key], count, axis=1)
        if 'gt_masks' in results:
            repeated['gt_masks'] = share_masks(results['gt_masks'], count)
        return repeated
