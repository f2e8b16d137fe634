"""Slow, obvious twins of the clip transforms' geometry."""

from __future__ import annotations

import math

import numpy as np


def boxes_from_masks(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel by pixel: (N, T, H, W) to boxes (N, T, 4) and whether a mask has any pixel."""
    boxes = np.zeros((*masks.shape[:2], 4), np.float32)
    valid = np.zeros(masks.shape[:2], bool)
    for n in range(masks.shape[0]):
        for t in range(masks.shape[1]):
            points = [
                (x, y)
                for y in range(masks.shape[2])
                for x in range(masks.shape[3])
                if masks[n, t, y, x]
            ]
            if points:
                xs, ys = zip(*points)
                boxes[n, t] = min(xs), min(ys), max(xs) + 1, max(ys) + 1
                valid[n, t] = True
    return boxes, valid


def rotate_box(
    box: list[float], angle: float, center: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Box around the corners turned by ``angle`` degrees, counter-clockwise as one looks at it."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    xs, ys = [], []
    for x, y in ((box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])):
        dx, dy = x - center[0], y - center[1]
        xs.append(center[0] + cos * dx + sin * dy)
        ys.append(center[1] - sin * dx + cos * dy)
    return min(xs), min(ys), max(xs), max(ys)
