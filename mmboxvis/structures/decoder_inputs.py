"""What the query decoder reads of the frames of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DecoderInputs:
    """All of the query decoder's work that needs no other frame, done for F frames.

    Like :class:`FrameFeatures`, from which it is computed, it can be kept and reused by every clip
    that holds the frame. S_i is the number of tokens of the level that decoder layer i attends to.

    Attributes:
        mask_embeds: (F, C, h, w), as in :class:`FrameFeatures`.
        mask_features: (F, C, h, w), as in :class:`FrameFeatures`.
        attention_embeds: ``mask_embeds`` at the size of each level, (F, C, h_l * w_l) each.
        keys: for each decoder layer (F, S_i, C), without the position in time.
        values: for each decoder layer (F, S_i, C).
    """

    mask_embeds: Tensor
    mask_features: Tensor
    attention_embeds: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def __len__(self) -> int:
        return int(self.mask_embeds.shape[0])

    @classmethod
    def cat(cls, parts: Sequence[DecoderInputs]) -> DecoderInputs:
        """Joins the frames of several parts, in order."""
        if len(parts) == 1:
            return parts[0]

        def join(name: str) -> tuple[Tensor, ...]:
            return tuple(torch.cat(same) for same in zip(*(getattr(p, name) for p in parts)))

        return cls(
            torch.cat([part.mask_embeds for part in parts]),
            torch.cat([part.mask_features for part in parts]),
            join('attention_embeds'),
            join('keys'),
            join('values'),
        )
