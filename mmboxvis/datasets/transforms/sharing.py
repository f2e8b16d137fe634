"""Work done once for frames that are the same picture.

A pseudo clip is one image T times. Until a transform sets the frames apart, all of them are one
array, and its masks one array seen T times, so that each transform needs to run only once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def map_frames(
    function: Callable[[np.ndarray], np.ndarray], imgs: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Applies ``function`` to T frames, once to each distinct array, which stay shared."""
    # dict keeps the frames alive meanwhile, so no two of them can have the same id
    distinct = {id(img): img for img in imgs}
    made = {key: function(img) for key, img in distinct.items()}
    return [made[id(img)] for img in imgs]


def share_masks(masks: np.ndarray, num_frames: int) -> np.ndarray:
    """(N, 1, H, W) as a read-only (N, T, H, W) that takes no further memory."""
    return np.broadcast_to(masks, (masks.shape[0], num_frames, *masks.shape[2:]))


def map_masks(function: Callable[[np.ndarray], np.ndarray], masks: np.ndarray) -> np.ndarray:
    """Applies ``function`` to masks (N, T, H, W), to one frame where all frames are shared.

    ``function`` must treat frames alike.
    """
    if masks.shape[1] > 1 and masks.strides[1] == 0:
        return share_masks(function(masks[:, :1]), masks.shape[1])
    return function(masks)
