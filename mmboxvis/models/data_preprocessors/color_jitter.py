"""A stronger view of the frames for the student."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmboxvis.registry import MODELS

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@MODELS.register_module()
class ColorJitter(nn.Module):
    """Changes brightness, saturation and the balance of the channels, the same way a clip.

    Black stays black, so that padding does not change. It runs on the device of the frames, as a
    handful of tensor operations for the whole batch.

    Args:
        brightness: the factor of all values lies in [1 - brightness, 1 + brightness].
        saturation: the same for the distance of a colour from its grey.
        balance: the same for each channel on its own.

    Raises:
        ValueError: if one of them is outside [0, 1].
    """

    def __init__(
        self, brightness: float = 0.3, saturation: float = 0.3, balance: float = 0.1
    ) -> None:
        super().__init__()
        for name, value in dict(
            brightness=brightness, saturation=saturation, balance=balance
        ).items():
            if not 0 <= value <= 1:
                raise ValueError(f'{name} must lie in [0, 1], not {value}')
        self.brightness = brightness
        self.saturation = saturation
        self.balance = balance

    @torch.no_grad()
    def forward(self, rgb: Tensor) -> Tensor:
        """Draws one change a clip and applies it to all its frames.

        Args:
            rgb: (B, T, 3, H, W) RGB, 0-255.

        Returns:
            As ``rgb``.
        """

        def factor(spread: float, channels: int = 1) -> Tensor:
            shape = (len(rgb), 1, channels, 1, 1)
            return 1 + spread * (2 * torch.rand(shape, dtype=rgb.dtype, device=rgb.device) - 1)

        grey = (rgb * rgb.new_tensor(_LUMA).view(3, 1, 1)).sum(-3, keepdim=True)
        colored = grey + factor(self.saturation) * (rgb - grey)
        return (factor(self.brightness) * factor(self.balance, 3) * colored).clamp(0, 255)
