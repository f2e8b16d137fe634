"""Normalises and pads clips, keeping the un-normalised RGB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmboxvis.registry import MODELS


@MODELS.register_module()
class ClipDataPreprocessor(BaseDataPreprocessor):
    """Batches clips of uint8 frames.

    All frames of a batch are padded to one size at the right and the bottom. The normalised
    frames are padded with 0; the RGB copy, from which the LAB affinity is computed, is padded
    with black, as in the released program.

    Args:
        mean: of R, G and B on the scale 0-255.
        std: of R, G and B.
        bgr_to_rgb: frames come as BGR, as mmcv reads them.
        pad_size_divisor: the padded height and width are multiples of it.
        keep_rgb: hands the RGB copy to the model in training.
        non_blocking: as in mmengine.
    """

    def __init__(
        self,
        *,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        bgr_to_rgb: bool = True,
        pad_size_divisor: int = 32,
        keep_rgb: bool = True,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        self.bgr_to_rgb = bgr_to_rgb
        self.pad_size_divisor = pad_size_divisor
        self.keep_rgb = keep_rgb
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a batch.

        Args:
            data: ``inputs``, a list of B clips, each (T, 3, H, W) uint8, and ``data_samples``.
                In a test the inputs are lazy frame sequences and pass through untouched: the
                model reads them one frame at a time.
            training: whether the batch is for a training step.

        Returns:
            ``inputs`` (B, T, 3, Hp, Wp) normalised, ``data_samples``, and in training ``rgb``
            (B, T, 3, Hp, Wp), 0-255.

        Raises:
            ValueError: where the clips differ in their number of frames.
        """
        clips = data['inputs']
        if not isinstance(clips[0], Tensor):
            return data
        lengths = {len(clip) for clip in clips}
        if len(lengths) > 1:
            raise ValueError(
                f'the clips of a batch have {sorted(lengths)} frames: use one num_frames'
            )
        rgbs = [
            self.to_rgb(clip.to(self.device, non_blocking=self._non_blocking)) for clip in clips
        ]
        size = self.padded_size(
            max(rgb.shape[-2] for rgb in rgbs), max(rgb.shape[-1] for rgb in rgbs)
        )
        batch = dict(
            inputs=torch.stack([self.pad(self.normalize(rgb), size) for rgb in rgbs]),
            data_samples=data.get('data_samples'),
        )
        if training and self.keep_rgb:
            batch['rgb'] = torch.stack([self.pad(rgb, size) for rgb in rgbs])
        return batch

    def to_rgb(self, frames: Tensor) -> Tensor:
        """(..., 3, H, W) as decoded to float RGB, 0-255."""
        return (frames.flip(-3) if self.bgr_to_rgb else frames).float()

    def normalize(self, rgb: Tensor) -> Tensor:
        """(..., 3, H, W) RGB 0-255 to zero mean and unit deviation."""
        return (rgb - self.mean) / self.std

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The next multiples of ``pad_size_divisor``."""
        divisor = self.pad_size_divisor
        return -(-height // divisor) * divisor, -(-width // divisor) * divisor

    @staticmethod
    def pad(frames: Tensor, size: tuple[int, int]) -> Tensor:
        """Pads (..., H, W) with 0 at the right and the bottom."""
        return F.pad(frames, (0, size[1] - frames.shape[-1], 0, size[0] - frames.shape[-2]))

    def frame(self, image: Tensor) -> Tensor:
        """One decoded frame (3, H, W) uint8 to network input (1, 3, Hp, Wp)."""
        rgb = self.to_rgb(image.to(self.device, non_blocking=self._non_blocking))
        return self.pad(self.normalize(rgb), self.padded_size(*rgb.shape[-2:]))[None]
