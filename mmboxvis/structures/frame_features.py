"""What the per-frame part of the network hands to the per-clip part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FrameFeatures:
    """Features of F frames; nothing in here mixes frames, so they can be kept and reused.

    Attributes:
        mask_embeds: (F, C, h, w), the mask embedding map at stride 4; its dot product with a
            query's mask embedding is the mask logit.
        mask_features: (F, C, h, w), the same map before its last 1x1 convolution, used by the
            patch correlation of the STPA loss.
        multi_scale: encoder maps at strides 32, 16 and 8, each (F, C, h_l, w_l).
    """

    mask_embeds: Tensor
    mask_features: Tensor
    multi_scale: tuple[Tensor, ...]

    def __len__(self) -> int:
        return int(self.mask_embeds.shape[0])

    @classmethod
    def cat(cls, parts: Sequence[FrameFeatures]) -> FrameFeatures:
        """Joins the frames of several parts, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.mask_embeds for part in parts]),
            torch.cat([part.mask_features for part in parts]),
            tuple(torch.cat(levels) for levels in zip(*(part.multi_scale for part in parts))),
        )
