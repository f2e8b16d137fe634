"""Predictions of one decoder layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ClipPredictions:
    """What one decoder layer says of a clip.

    Shapes are those of one clip: Q queries, K classes (the last logit is *no object*), T frames,
    C channels, masks at stride 4. Inside the network the same structure carries a leading batch
    axis B on every field; :meth:`clip` takes one clip out of it.

    Attributes:
        cls_logits: (Q, K+1), one class for the whole clip.
        mask_logits: (Q, T, h, w).
        embeds: (Q, C), normalised query content, used for matching queries between clips.
        mask_features: (T, C, h, w), the stride-4 feature before the mask projection. The same
            tensor is shared by all layers of a forward pass.
    """

    cls_logits: Tensor
    mask_logits: Tensor
    embeds: Tensor
    mask_features: Tensor

    def clip(self, index: int) -> ClipPredictions:
        """Takes clip ``index`` out of a batch."""
        return ClipPredictions(
            self.cls_logits[index],
            self.mask_logits[index],
            self.embeds[index],
            self.mask_features[index],
        )
