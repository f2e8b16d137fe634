"""The Mask2Former-VIS head: frames to features, clips to predictions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmboxvis.models.layers import QueryDecoder
from mmboxvis.registry import MODELS
from mmboxvis.structures import ClipPredictions, DecoderInputs, FrameFeatures


@MODELS.register_module()
class BoxVISHead(BaseModule):
    """Pixel decoder and query decoder of Mask2Former-VIS (paper section 3.1).

    Three steps are kept apart, because only the last mixes frames: :meth:`encode_frames` turns
    backbone maps into :class:`FrameFeatures` and :meth:`decoder_inputs` these into keys and
    values, frame by frame; :meth:`decode` lets the queries attend to the T frames of a clip. At
    test time a frame goes through the first two once, however many clips it belongs to.

    The attention of a layer needs the masks predicted before it at its own, low resolution. Since
    resizing is linear, the mask embedding is resized once, instead of every query's mask in every
    layer: ``resize(<q, E>) = <q, resize(E)>``.

    B clips, T frames, Q queries, K classes, C channels, masks at stride 4 (h, w). Parameter names
    are those of mmdet's ``Mask2FormerTrackHead``.

    Args:
        in_channels: channels of the backbone maps, high to low resolution.
        num_classes: K.
        pixel_decoder: config of a :class:`FrameFeaturesPixelDecoder`.
        transformer_decoder: arguments of a :class:`QueryDecoder`.
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
        self.transformer_decoder = QueryDecoder(**transformer_decoder)
        if self.transformer_decoder.embed_dims != feat_channels:
            raise ValueError(
                f'the query decoder has {self.transformer_decoder.embed_dims} channels, the pixel '
                f'decoder {feat_channels}: give both the same number'
            )
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

    def decoder_inputs(self, features: FrameFeatures) -> DecoderInputs:
        """Does what the query decoder has to do with each frame, whatever its clip."""
        levels = []
        for i, level in enumerate(features.multi_scale):
            tokens = level.flatten(2).transpose(1, 2) + self.level_embed.weight[i]
            code = self.decoder_positional_encoding.frame_code(level.shape[-2:], level.device)
            levels.append((tokens, code.flatten(1).T.to(tokens.dtype)))
        keys, values = zip(
            *(
                layer.cross_attn.project(*levels[i % self.num_levels])
                for i, layer in enumerate(self.transformer_decoder.layers)
            )
        )
        # only the attention masks are made of these, and those have no gradient; on the CPU
        # each resizing would bring them into this order
        embeds = features.mask_embeds.detach().contiguous(memory_format=torch.channels_last)
        resized = tuple(
            F.interpolate(embeds, level.shape[-2:], mode='bilinear', align_corners=False).flatten(2)
            for level in features.multi_scale
        )
        return DecoderInputs(features.mask_embeds, features.mask_features, resized, keys, values)

    def forward(
        self, features: FrameFeatures, num_frames: int, *, last_only: bool = False
    ) -> list[ClipPredictions]:
        """Predicts the objects of B clips.

        Args:
            features: of B * ``num_frames`` frames, clip after clip.
            num_frames: T.
            last_only: see :meth:`decode`.

        Returns:
            See :meth:`decode`.
        """
        return self.decode(self.decoder_inputs(features), num_frames, last_only=last_only)

    def decode(
        self, inputs: DecoderInputs, num_frames: int, *, last_only: bool = False
    ) -> list[ClipPredictions]:
        """Lets the queries attend to the frames of B clips.

        Args:
            inputs: of B * ``num_frames`` frames, clip after clip.
            num_frames: T.
            last_only: returns the last layer's prediction alone. What the others predict is then
                computed at the size that the attention needs, not at stride 4.

        Returns:
            Predictions with a leading batch axis: that of the initial queries first, then one a
            layer; the last is the one to use.
        """
        num_clips = len(inputs) // num_frames
        mask_embeds, mask_features, *attention_embeds = (
            x.unflatten(0, (num_clips, num_frames))
            for x in (inputs.mask_embeds, inputs.mask_features, *inputs.attention_embeds)
        )
        query = self.query_feat.weight.expand(num_clips, -1, -1)
        query_pos = self.query_embed.weight.expand(num_clips, -1, -1)
        time_code = self.decoder_positional_encoding.time_code(num_frames, query.device)

        # of all frames together: a product with it has the masks of a query in one piece
        mask_map = mask_embeds.transpose(1, 2).flatten(2)
        predictions: list[ClipPredictions] = []
        layers = self.transformer_decoder.layers
        for i in range(len(layers) + 1):
            embeds = self.transformer_decoder.post_norm(query)
            masks = self.mask_embed(embeds)
            if i == len(layers) or not last_only:
                mask_map = mask_map.to(masks.dtype)
                logits = (masks @ mask_map).unflatten(-1, (num_frames, *mask_embeds.shape[-2:]))
                classes = self.cls_embed(embeds)
                predictions.append(
                    ClipPredictions(classes, logits, embeds, mask_features, masks, mask_map)
                )
            if i == len(layers):
                break
            keys, values = (
                x[i].unflatten(0, (num_clips, num_frames)) for x in (inputs.keys, inputs.values)
            )
            query = layers[i](
                query,
                keys,
                values,
                query_pos=query_pos,
                time_code=time_code,
                visible=_visible(_dot(masks.detach(), attention_embeds[i % self.num_levels])),
            )
        return predictions


def _dot(masks: Tensor, embeds: Tensor) -> Tensor:
    """Mask logits (B, Q, T, S) of mask vectors (B, Q, C) on maps (B, T, C, S)."""
    return (masks[:, None] @ embeds.to(masks.dtype)).transpose(1, 2)


def _visible(logits: Tensor) -> Tensor:
    """Which tokens each query attends to, (B, Q, T * S) bool.

    Those inside its present mask, a logit of exactly 0 included. A query that would see nothing
    sees everything.

    Args:
        logits: (B, Q, T, S) at the resolution of the tokens.
    """
    inside = (logits >= 0).flatten(2)
    return inside | ~inside.any(-1, keepdim=True)
