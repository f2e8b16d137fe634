"""The pixel-supervised twin."""

from __future__ import annotations

from typing import Any

from mmdet.structures import TrackDataSample
from torch import Tensor

from mmboxvis.models.heads import MaskSupervisedCriterion
from mmboxvis.registry import MODELS
from mmboxvis.structures import ClipTargets

from .base import BaseVIS


@MODELS.register_module()
class Mask2FormerVIS(BaseVIS):
    """Mask2Former-VIS trained from masks: the same network as :class:`BoxVIS`, no teacher.

    Args:
        network: config of a :class:`ClipNetwork`.
        criterion: config of a :class:`MaskSupervisedCriterion`.
        kwargs: see :class:`BaseVIS`.
    """

    def __init__(self, *, network: dict, criterion: dict, **kwargs: Any) -> None:
        super().__init__(network=network, **kwargs)
        self.criterion: MaskSupervisedCriterion = MODELS.build(criterion)

    def loss(
        self, inputs: Tensor, data_samples: list[TrackDataSample], rgb: Tensor | None
    ) -> dict[str, Tensor]:
        """Losses of all layers for a batch of clips with masks."""
        targets = ClipTargets.from_data_samples(
            data_samples, (inputs.shape[-2], inputs.shape[-1]), device=inputs.device
        )
        return self.criterion(self.student(inputs), targets)
