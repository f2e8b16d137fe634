"""The query decoder as released: mmdet's layers, every mask at stride 4 and resized afterwards."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.layers import Mask2FormerTransformerDecoder
from torch import Tensor

from mmboxvis.structures import ClipPredictions, FrameFeatures


def plain_decoder(head: Any) -> Mask2FormerTransformerDecoder:
    """mmdet's decoder with a copy of the head's parameters."""
    ours = head.transformer_decoder
    theirs = Mask2FormerTransformerDecoder(num_layers=ours.num_layers, layer_cfg=ours.layer_cfg)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return theirs.to(head.query_feat.weight.dtype).train(ours.training)


def predict(
    head: Any, decoder: Mask2FormerTransformerDecoder, features: FrameFeatures, num_frames: int
) -> list[ClipPredictions]:
    """Predictions of all layers, of clips of ``num_frames`` frames."""
    num_clips = len(features) // num_frames
    mask_embeds = features.mask_embeds.unflatten(0, (num_clips, num_frames))
    mask_features = features.mask_features.unflatten(0, (num_clips, num_frames))
    query = head.query_feat.weight.expand(num_clips, -1, -1)
    query_pos = head.query_embed.weight.expand(num_clips, -1, -1)
    num_heads = decoder.layers[0].cross_attn.num_heads
    predictions = []
    for i in range(len(decoder.layers) + 1):
        embeds = decoder.post_norm(query)
        logits = torch.einsum('bqc,btchw->bqthw', head.mask_embed(embeds), mask_embeds)
        predictions.append(ClipPredictions(head.cls_embed(embeds), logits, embeds, mask_features))
        if i == len(decoder.layers):
            break
        maps = features.multi_scale[i % 3].unflatten(0, (num_clips, num_frames))
        no_padding = torch.zeros(1, num_frames, *maps.shape[-2:], dtype=torch.bool)
        code = head.decoder_positional_encoding(no_padding).to(maps.dtype)
        tokens = maps.permute(0, 1, 3, 4, 2).flatten(1, 3) + head.level_embed.weight[i % 3]
        code = code.permute(0, 1, 3, 4, 2).flatten(1, 3).expand(num_clips, -1, -1)
        query = decoder.layers[i](
            query=query,
            key=tokens,
            value=tokens,
            query_pos=query_pos,
            key_pos=code,
            cross_attn_mask=blocked(logits, maps.shape[-2:], num_heads),
        )
    return predictions


def blocked(mask_logits: Tensor, size: tuple[int, int], num_heads: int) -> Tensor:
    """What each query must not see, (B * heads, Q, T * h * w) bool, from (B, Q, T, H, W)."""
    masks = []
    for clip in mask_logits.detach():
        for _ in range(num_heads):
            for query in clip:
                frames = F.interpolate(query[None], size, mode='bilinear').sigmoid()
                mask = (frames < 0.5).flatten()
                masks.append(torch.zeros_like(mask) if mask.all() else mask)
    return torch.stack(masks).unflatten(0, (len(mask_logits) * num_heads, -1))
