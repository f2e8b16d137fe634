"""Three-dimensional sine position code, in mmdet's and in BoxVIS's flavour."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.layers import SinePositionalEncoding
from torch import Tensor

from mmboxvis.registry import MODELS


@MODELS.register_module()
class SinePositionalEncoding3D(SinePositionalEncoding):
    """Sine code of (t, y, x): ``concat(code(y), code(x)) + code(t)``.

    Channel i of an axis holds a sine where i is even and a cosine where it is odd. In the common
    code the two of a pair share a frequency, ``temperature ** (-2 * (i // 2) / n)``. The released
    BoxVIS leaves the rounding out, ``temperature ** (-i / n)``: its weights need
    ``paired_frequencies=False``.

    Args:
        num_feats: channels of y and of x; t and the result have twice as many. Even.
        temperature: base of the frequencies.
        normalize: maps the positions of each axis to (0, ``scale``].
        scale: see ``normalize``; 2 pi by default.
        eps: keeps the normalisation finite.
        offset: added to the positions before they are normalised.
        paired_frequencies: see above.
        init_cfg: as in mmengine.
    """

    def __init__(
        self,
        num_feats: int,
        temperature: int = 10000,
        normalize: bool = False,
        scale: float = 2 * torch.pi,
        eps: float = 1e-6,
        offset: float = 0.0,
        paired_frequencies: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        if num_feats % 2:
            raise ValueError(f'num_feats must be even, got {num_feats}')
        super().__init__(num_feats, temperature, normalize, scale, eps, offset, init_cfg)
        self.paired_frequencies = paired_frequencies

    def forward(self, mask: Tensor) -> Tensor:
        """Codes the positions of a clip.

        Args:
            mask: (B, T, h, w), non-zero where a position is ignored.

        Returns:
            (B, T, 2 * num_feats, h, w) float32.
        """
        if mask.dim() != 4:
            raise ValueError(f'expected a mask of shape (B, T, h, w), got {tuple(mask.shape)}')
        counted = mask.logical_not()
        t, y, x = (self._axis_positions(counted, dim) for dim in (1, 2, 3))
        code = self._code_yx(y, x) + self._code(t, 2 * self.num_feats)
        return code.permute(0, 1, 4, 2, 3)

    def frame_code(self, size: Sequence[int], device: torch.device | None = None) -> Tensor:
        """What (y, x) contributes where nothing is ignored.

        With :meth:`time_code` it adds up to the code of a clip, and depends on no other frame.

        Args:
            size: (h, w).
            device: where to put it.

        Returns:
            (2 * num_feats, h, w) float32.
        """
        counted = torch.ones(1, *size, dtype=torch.bool, device=device)
        y, x = (self._axis_positions(counted, dim) for dim in (1, 2))
        return self._code_yx(y, x)[0].permute(2, 0, 1)

    def time_code(self, num_frames: int, device: torch.device | None = None) -> Tensor:
        """What t contributes in a clip of T frames, (T, 2 * num_feats) float32."""
        counted = torch.ones(num_frames, dtype=torch.bool, device=device)
        return self._code(self._axis_positions(counted, 0), 2 * self.num_feats)

    def _code_yx(self, y: Tensor, x: Tensor) -> Tensor:
        return torch.cat([self._code(y, self.num_feats), self._code(x, self.num_feats)], -1)

    def _axis_positions(self, counted: Tensor, dim: int) -> Tensor:
        positions = counted.cumsum(dim, dtype=torch.float32)
        if not self.normalize:
            return positions
        last = positions.narrow(dim, positions.shape[dim] - 1, 1)
        return (positions + self.offset) / (last + self.eps) * self.scale

    def _code(self, positions: Tensor, num_channels: int) -> Tensor:
        channels = torch.arange(num_channels, dtype=torch.float32, device=positions.device)
        if self.paired_frequencies:
            channels = 2 * (channels // 2)
        angles = positions[..., None] / self.temperature ** (channels / num_channels)
        return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], -1).flatten(-2)
