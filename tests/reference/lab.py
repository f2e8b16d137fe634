"""CIE Lab one pixel at a time, by the book."""

from __future__ import annotations

import torch
from torch import Tensor


def pixel_to_lab(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """sRGB in 0-255 to Lab under D65."""

    def linear(value: float) -> float:
        value = value / 255
        return ((value + 0.055) / 1.055) ** 2.4 if value > 0.04045 else value / 12.92

    def curve(value: float) -> float:
        return value ** (1 / 3) if value > 0.008856 else 7.787 * value + 4 / 29

    r, g, b = linear(red), linear(green), linear(blue)
    fx = curve((0.412453 * r + 0.357580 * g + 0.180423 * b) / 0.95047)
    fy = curve(0.212671 * r + 0.715160 * g + 0.072169 * b)
    fz = curve((0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.08883)
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """(3, H, W) to (3, H, W)."""
    pixels = rgb.double().flatten(1).t().tolist()
    return torch.tensor([pixel_to_lab(*pixel) for pixel in pixels]).t().reshape(rgb.shape)
