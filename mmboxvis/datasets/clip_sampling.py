"""Which frames of a video make a training clip."""

from __future__ import annotations

from typing import Any

import numpy as np


def sample_clip_frames(
    length: int,
    num_frames: int,
    frame_range: int = 10,
    rng: np.random.RandomState | None = None,
    *,
    replacement: bool = True,
) -> np.ndarray:
    """Draws a reference frame and others near it (released program).

    The reference r is uniform over the video; the other ``num_frames - 1`` are uniform over
    ``[r - frame_range, r + frame_range]`` inside the video, without r. A video of one frame
    repeats it.

    Args:
        length: frames of the video, at least 1.
        num_frames: frames of the clip T, at least 1.
        frame_range: largest distance from the reference, at least 0; 0 repeats the reference.
        rng: source of randomness; numpy's global one by default, which mmengine seeds in each
            worker.
        replacement: draw the others with replacement, as the released program does. Without it,
            frames are repeated only where there are fewer than T.

    Returns:
        (T,) int64, sorted.

    Raises:
        ValueError: if an argument is out of range.
    """
    if length < 1 or num_frames < 1 or frame_range < 0:
        raise ValueError(
            'expected length >= 1, num_frames >= 1 and frame_range >= 0, got '
            f'length={length}, num_frames={num_frames}, frame_range={frame_range}'
        )
    draw: Any = np.random if rng is None else rng
    reference = int(draw.randint(length))
    low, high = max(0, reference - frame_range), min(length, reference + frame_range + 1)
    others = np.setdiff1d(np.arange(low, high), [reference])
    number = num_frames - 1
    drawn: np.ndarray
    if len(others) == 0:
        drawn = np.full(number, reference)
    elif replacement:
        drawn = draw.choice(others, number)
    else:
        distinct = draw.permutation(others)[:number]
        drawn = np.append(distinct, draw.choice(others, number - len(distinct)))
    return np.sort(np.append(drawn, reference)).astype(np.int64)
