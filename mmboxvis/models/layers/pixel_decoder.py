"""mmdet's deformable pixel decoder, handing out its stride-4 feature as well."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.layers import MSDeformAttnPixelDecoder
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmboxvis.models.precision import at_least_float32
from mmboxvis.registry import MODELS
from mmboxvis.structures import FrameFeatures


class _ReLU(nn.ReLU):
    """In place where nothing is kept for a gradient.

    A linear layer gives a view of its result for (F, S, C); in place on a view, autograd would
    copy all of it three times in the backward pass.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Clamps at 0."""
        return F.relu(x, inplace=not (torch.is_grad_enabled() and x.requires_grad))


@MODELS.register_module()
class FrameFeaturesPixelDecoder(MSDeformAttnPixelDecoder):
    """``MSDeformAttnPixelDecoder`` that returns all it knows of a frame.

    Parameters, their names and the numbers are those of mmdet's class (paper section 3.1, the
    Mask2Former pixel decoder). The difference is what comes back, and that it runs in no less
    than float32, as the released program's does under mixed precision.

    Args:
        encoder: config of mmdet's ``Mask2FormerTransformerEncoder``. ``type`` in its
            ``layer_cfg.self_attn_cfg`` names the deformable attention, a
            :class:`FusedDeformableAttention` by default.
        kwargs: the other arguments of ``MSDeformAttnPixelDecoder``.
    """

    def __init__(self, *, encoder: dict, **kwargs: Any) -> None:
        # mmdet reads the nested config by attribute
        config = ConfigDict(copy.deepcopy(encoder))
        attention = config.layer_cfg.self_attn_cfg.pop('type', 'FusedDeformableAttention')
        super().__init__(encoder=config, **kwargs)
        for layer in self.encoder.layers:
            layer.self_attn = MODELS.build(dict(type=attention, **layer.self_attn_cfg))
        for module in list(self.encoder.modules()):
            for name, child in module.named_children():
                if type(child) is nn.ReLU:
                    setattr(module, name, _ReLU())

    def forward(self, feats: Sequence[Tensor]) -> FrameFeatures:
        """Decodes frames one by one, without mixing them.

        Args:
            feats: backbone maps from high to low resolution, each (F, C_i, h_i, w_i).
        """
        with torch.autocast(feats[0].device.type, enabled=False):
            return self._forward_float32([at_least_float32(feat) for feat in feats])

    def _forward_float32(self, feats: list[Tensor]) -> FrameFeatures:
        tokens, codes, references, shapes = [], [], [], []
        for i in range(self.num_encoder_levels):
            level = self.num_input_levels - 1 - i
            feat = feats[level]
            no_padding = feat.new_zeros((1, *feat.shape[-2:]), dtype=torch.bool)
            code = self.postional_encoding(no_padding) + self.level_encoding.weight[i].view(
                1, -1, 1, 1
            )
            tokens.append(self.input_convs[i](feat).flatten(2).transpose(1, 2))
            codes.append(code.flatten(2).transpose(1, 2))
            references.append(self._reference_points(feat))
            shapes.append(tuple(feat.shape[-2:]))
        memory = self._encode(tokens, codes, references, shapes)

        sizes = [h * w for h, w in shapes]
        levels = [
            part.transpose(1, 2).unflatten(-1, shape)
            for part, shape in zip(memory.split(sizes, dim=1), shapes)
        ]
        fine = levels[-1]
        for i, (lateral, output) in enumerate(zip(self.lateral_convs, self.output_convs)):
            skip = lateral(feats[self.num_input_levels - self.num_encoder_levels - 1 - i])
            fine = output(
                skip + F.interpolate(fine, skip.shape[-2:], mode='bilinear', align_corners=False)
            )
        return FrameFeatures(self.mask_feature(fine), fine, tuple(levels[: self.num_outs]))

    @staticmethod
    def _reference_points(feat: Tensor) -> Tensor:
        """Cell centres as (x, y) in 0-1, (h * w, 2)."""
        h, w = feat.shape[-2:]
        y = (torch.arange(h, dtype=feat.dtype, device=feat.device) + 0.5) / h
        x = (torch.arange(w, dtype=feat.dtype, device=feat.device) + 0.5) / w
        return torch.stack(torch.meshgrid(x, y, indexing='xy'), -1).flatten(0, 1)

    def _encode(
        self,
        tokens: list[Tensor],
        codes: list[Tensor],
        references: list[Tensor],
        shapes: list[tuple[int, int]],
    ) -> Tensor:
        """Runs the deformable encoder over all levels' tokens, (F, S, C) to (F, S, C)."""
        query = torch.cat(tokens, 1)
        num_frames, num_levels = len(query), len(shapes)
        spatial_shapes = torch.tensor(shapes, device=query.device)
        starts = torch.tensor([0, *[h * w for h, w in shapes[:-1]]], device=query.device).cumsum(0)
        reference_points = torch.cat(references)[None, :, None].expand(
            num_frames, -1, num_levels, -1
        )
        return self.encoder(
            query=query,
            query_pos=torch.cat(codes, 1).expand(num_frames, -1, -1),
            key_padding_mask=None,
            spatial_shapes=spatial_shapes,
            level_start_index=starts,
            valid_ratios=query.new_ones((num_frames, num_levels, 2)),
            reference_points=reference_points,
            level_shapes=shapes,
        )
