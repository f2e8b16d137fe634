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

    ``mask_logits`` is ``mask_vectors @ mask_map`` where these are given. Whoever needs a few
    queries' masks with their gradient multiplies these again: the gradient then costs as many rows
    as are needed, not Q.

    Attributes:
        cls_logits: (Q, K+1), one class for the whole clip.
        mask_logits: (Q, T, h, w).
        embeds: (Q, C), normalised query content, used for matching queries between clips.
        mask_features: (T, C, h, w), the stride-4 feature before the mask projection. The same
            tensor is shared by all layers of a forward pass.
        mask_vectors: (Q, E), or ``None``.
        mask_map: (E, T * h * w), or ``None``; shared by all layers as well.
    """

    cls_logits: Tensor
    mask_logits: Tensor
    embeds: Tensor
    mask_features: Tensor
    mask_vectors: Tensor | None = None
    mask_map: Tensor | None = None

    def clip(self, index: int) -> ClipPredictions:
        """Takes clip ``index`` out of a batch."""
        return ClipPredictions(
            self.cls_logits[index],
            self.mask_logits[index],
            self.embeds[index],
            self.mask_features[index],
            None if self.mask_vectors is None else self.mask_vectors[index],
            None if self.mask_map is None else self.mask_map[index],
        )
