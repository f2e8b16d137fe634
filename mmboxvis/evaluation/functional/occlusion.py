"""Occlusion groups of the OVIS benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

OCCLUSION_LEVELS: Mapping[str, float] = {
    'no_occlusion': 0.0,
    'slight_occlusion': 0.25,
    'severe_occlusion': 0.75,
}

# closed on both sides as in the benchmark's program: a score on a border counts in both groups
OCCLUSION_RANGES: Mapping[str, tuple[float, float]] = {
    'so': (0.0, 0.25),
    'mo': (0.25, 0.5),
    'ho': (0.5, 1.0),
}


def occlusion_score(levels: Sequence[str | None]) -> float:
    """Occlusion of one annotated track: the mean of the higher half of its frames.

    Args:
        levels: one name of :data:`OCCLUSION_LEVELS` a frame, ``None`` where the track is absent.

    Returns:
        Score in [0, 0.75], the mean of the highest ``ceil(n / 2)`` of the n frames that have a
        level, or NaN where none has: such a track is in no group.

    Raises:
        ValueError: if a name is not known.
    """
    unknown = [
        name
        for name in levels
        if name is not None and not (isinstance(name, str) and name in OCCLUSION_LEVELS)
    ]
    if unknown:
        raise ValueError(
            f'unknown occlusion level {unknown[0]!r}, expected null or one of '
            f'{", ".join(OCCLUSION_LEVELS)}'
        )
    values = np.sort([OCCLUSION_LEVELS[name] for name in levels if name is not None])
    if not len(values):
        return math.nan
    return float(values[-math.ceil(len(values) / 2) :].mean())
