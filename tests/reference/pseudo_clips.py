"""Pseudo clips the plain way: every frame is decoded and augmented on its own, at full size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmboxvis.datasets.video_frames import read_frame


class DecodeEveryFrame:
    """Stands after ``ImageToClip`` and undoes all sharing: T files are read, T masks are held."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Reads every frame anew."""
        apart = dict(results, imgs=[read_frame(path) for path in results['img_paths']])
        if 'gt_masks' in results:
            apart['gt_masks'] = np.array(results['gt_masks'])
        return apart


def plain_pipeline(transforms: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The same pipeline without any saving: see :class:`DecodeEveryFrame`; Pillow resizes."""
    plain: list[Any] = []
    for transform in transforms:
        changed = dict(transform)
        if changed['type'] == 'ClipResizeShortEdge' and changed.get('backend') != 'cv2':
            changed['backend'] = 'pillow'
        if 'transforms' in changed:
            changed['transforms'] = plain_pipeline(changed['transforms'])
        plain.append(changed)
        if changed['type'] == 'ImageToClip':
            plain.append(DecodeEveryFrame())
    return plain
