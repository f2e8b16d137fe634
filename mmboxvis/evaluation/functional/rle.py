"""Areas of compressed run-lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as mask_api

from mmboxvis.run_lengths import RLE, RunTotals, compress, run_totals

__all__ = ['RLE', 'RunTotals', 'compress', 'mask_areas', 'run_totals']

# pycocotools 2.0.11 counts the masks of one call in a byte
_MAX_MASKS = 255


def mask_areas(masks: Sequence[RLE]) -> np.ndarray:
    """(S,) int64 areas in pixels of S compressed run-lengths."""
    chunks = [masks[start : start + _MAX_MASKS] for start in range(0, len(masks), _MAX_MASKS)]
    areas = [mask_api.area(list(chunk)) for chunk in chunks]
    return np.concatenate([np.zeros(0), *areas]).astype(np.int64)
