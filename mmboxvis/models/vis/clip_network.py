"""Backbone and head: a clip in, predictions out."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmboxvis.models.heads import BoxVISHead
from mmboxvis.models.layers.frozen_norm import fold_frozen_norms
from mmboxvis.registry import MODELS
from mmboxvis.structures import ClipPredictions, FrameFeatures


@MODELS.register_module()
class ClipNetwork(BaseModule):
    """The network of Mask2Former-VIS (paper section 3.1).

    Args:
        backbone: config of a backbone with maps at strides 4, 8, 16 and 32.
        track_head: config of a :class:`BoxVISHead`.
        init_cfg: as in mmengine.
    """

    def __init__(self, *, backbone: dict, track_head: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.backbone: nn.Module = fold_frozen_norms(MODELS.build(backbone))
        self.track_head: BoxVISHead = MODELS.build(track_head)

    def encode_frames(self, frames: Tensor) -> FrameFeatures:
        """(F, 3, H, W) normalised frames to the features of each."""
        return self.track_head.encode_frames(self.backbone(frames))

    def forward(self, clips: Tensor, *, last_only: bool = False) -> list[ClipPredictions]:
        """(B, T, 3, H, W) normalised clips to the predictions of every layer, see the head."""
        features = self.encode_frames(clips.flatten(0, 1))
        return self.track_head(features, clips.shape[1], last_only=last_only)
