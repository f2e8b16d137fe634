"""The Mask2Former-VIS head: frames to features, clips to predictions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.layers import Mask2FormerTransformerDecoder
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmboxvis.registry import MODELS
from mmboxvis.structures import ClipPredictions, FrameFeatures


@MODELS.register_module()
class BoxVISHead(BaseModule):
    """Pixel decoder and query decoder of Mask2Former-VIS (paper section 3.1).

    Two steps are kept apart, because only the second mixes frames: :meth:`encode_frames` turns
    backbone maps into :class:`FrameFeatures`, frame by frame, and :meth:`forward` lets the
    queries attend to the T frames of a clip. At test time a frame goes through the first step
    once, however many clips it belongs to.

    B clips, T frames, Q queries, K classes, C channels, masks at stride 4 (h, w). Parameter names
    are those of mmdet's ``Mask2FormerTrackHead``.

    Args:
        in_channels: channels of the backbone maps, high to low resolution.
        num_classes: K.
        pixel_decoder: config of a :class:`FrameFeaturesPixelDecoder`.
        transformer_decoder: config of mmdet's ``Mask2FormerTransformerDecoder``.
        positional_encoding: config of a 3-D position code with C channels.
        feat_channels: C.
        out_channels: channels of the mask embedding.
        num_queries: Q.
        init_cfg: as in mmengine.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        num_classes: int,
        pixel_decoder: dict,
        transformer_decoder: dict,
        positional_encoding: dict,
        feat_channels: int = 256,
        out_channels: int = 256,
        num_queries: int = 100,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes = num_classes
        self.num_queries = num_queries
        self.pixel_decoder = MODELS.build(
            dict(pixel_decoder),
            default_args=dict(
                in_channels=list(in_channels),
                feat_channels=feat_channels,
                out_channels=out_channels,
            ),
        )
        self.transformer_decoder = Mask2FormerTransformerDecoder(**transformer_decoder)
        if self.transformer_decoder.embed_dims != feat_channels:
            raise ValueError(
                f'the query decoder has {self.transformer_decoder.embed_dims} channels, the pixel '
                f'decoder {feat_channels}: give both the same number'
            )
        self.num_heads = self.transformer_decoder.layers[0].cross_attn.num_heads
        self.num_levels = self.pixel_decoder.num_outs
        self.decoder_positional_encoding = MODELS.build(positional_encoding)
        self.query_embed = nn.Embedding(num_queries, feat_channels)
        self.query_feat = nn.Embedding(num_queries, feat_channels)
        self.level_embed = nn.Embedding(self.num_levels, feat_channels)
        self.cls_embed = nn.Linear(feat_channels, num_classes + 1)
        self.mask_embed = nn.Sequential(
            nn.Linear(feat_channels, feat_channels),
            nn.ReLU(),
            nn.Linear(feat_channels, feat_channels),
            nn.ReLU(),
            nn.Linear(feat_channels, out_channels),
        )

    def init_weights(self) -> None:
        """Initialises the decoders as Mask2Former does; the rest keeps torch's defaults."""
        self.pixel_decoder.init_weights()
        for parameter in self.transformer_decoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)

    def encode_frames(self, feats: Sequence[Tensor]) -> FrameFeatures:
        """Backbone maps of F frames, each (F, C_i, h_i, w_i), to their features."""
        return self.pixel_decoder(feats)

    def forward(
        self, features: FrameFeatures, num_frames: int, *, last_only: bool = False
    ) -> list[ClipPredictions]:
        """Predicts the objects of B clips.

        Args:
            features: of B * ``num_frames`` frames, clip after clip.
            num_frames: T.
            last_only: returns the last layer's prediction alone and spares the others' class
                logits.

        Returns:
            Predictions with a leading batch axis: that of the initial queries first, then one a
            layer; the last is the one to use.
        """
        num_clips = len(features) // num_frames
        mask_embeds = features.mask_embeds.unflatten(0, (num_clips, num_frames))
        mask_features = features.mask_features.unflatten(0, (num_clips, num_frames))
        tokens = [
            self._clip_tokens(level, num_clips, num_frames, self.level_embed.weight[i])
            for i, level in enumerate(features.multi_scale)
        ]
        query = self.query_feat.weight.expand(num_clips, -1, -1)
        query_pos = self.query_embed.weight.expand(num_clips, -1, -1)

        predictions: list[ClipPredictions] = []
        layers = self.transformer_decoder.layers
        for i in range(len(layers) + 1):
            embeds = self.transformer_decoder.post_norm(query)
            mask_logits = torch.einsum(
                'bqc,btchw->bqthw', self.mask_embed(embeds), mask_embeds.to(embeds.dtype)
            )
            if i == len(layers) or not last_only:
                predictions.append(
                    ClipPredictions(self.cls_embed(embeds), mask_logits, embeds, mask_features)
                )
            if i == len(layers):
                break
            level = i % self.num_levels
            value, key_pos = tokens[level]
            query = layers[i](
                query=query,
                key=value,
                value=value,
                query_pos=query_pos,
                key_pos=key_pos,
                cross_attn_mask=self._attention_mask(
                    mask_logits, features.multi_scale[level].shape[-2:]
                ),
                query_key_padding_mask=None,
                key_padding_mask=None,
            )
        return predictions

    def _clip_tokens(
        self, level: Tensor, num_clips: int, num_frames: int, level_embed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens of a level in (t, y, x) order and their position code, (B, T*h*w, C) each."""
        maps = level.unflatten(0, (num_clips, num_frames))
        no_padding = maps.new_zeros((1, num_frames, *level.shape[-2:]), dtype=torch.bool)
        code = self.decoder_positional_encoding(no_padding)
        tokens = maps.permute(0, 1, 3, 4, 2).flatten(1, 3) + level_embed
        code = code.permute(0, 1, 3, 4, 2).flatten(1, 3).to(tokens.dtype)
        return tokens, code.expand(num_clips, -1, -1)

    def _attention_mask(self, mask_logits: Tensor, size: Sequence[int]) -> Tensor:
        """Blocks what the current mask leaves out, (B * heads, Q, T*h*w) bool.

        A query that would see nothing sees everything. No gradient.
        """
        logits = mask_logits.detach().flatten(0, 1)
        resized = F.interpolate(logits, tuple(size), mode='bilinear', align_corners=False)
        # sigmoid < 0.5 is logit < 0; both leave a logit of exactly 0 open
        blocked = (resized < 0).unflatten(0, mask_logits.shape[:2]).flatten(2)
        blocked = blocked & ~blocked.all(-1, keepdim=True)
        return blocked[:, None].expand(-1, self.num_heads, -1, -1).flatten(0, 1)
