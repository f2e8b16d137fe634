"""Configs of networks of any size, for programs that read the size off a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def clip_network_cfg(
    *,
    backbone: dict[str, Any],
    in_channels: Sequence[int],
    num_classes: int,
    num_queries: int = 100,
    channels: int = 256,
    mask_channels: int | None = None,
    num_heads: int = 8,
    num_points: int = 4,
    encoder_layers: int = 6,
    encoder_ffn: int = 1024,
    decoder_layers: int = 9,
    decoder_ffn: int = 2048,
    paired_frequencies: bool = False,
) -> dict[str, Any]:
    """Writes the config of a :class:`ClipNetwork`; the defaults are the paper's R50 head.

    Args:
        backbone: config of the backbone.
        in_channels: its channels at strides 4, 8, 16 and 32.
        num_classes: K.
        num_queries: Q.
        channels: of the pixel decoder and the query decoder; divisible by 32 and ``num_heads``.
        mask_channels: of the mask embedding; ``channels`` by default.
        num_heads: of all attention layers.
        num_points: sampled a head and level by the deformable attention.
        encoder_layers: of the pixel decoder.
        encoder_ffn: hidden channels there.
        decoder_layers: of the query decoder.
        decoder_ffn: hidden channels there.
        paired_frequencies: see :class:`SinePositionalEncoding3D`.
    """

    def ffn(hidden: int) -> dict[str, Any]:
        return dict(
            embed_dims=channels,
            feedforward_channels=hidden,
            num_fcs=2,
            ffn_drop=0.0,
            act_cfg=dict(type='ReLU', inplace=True),
        )

    attention = dict(embed_dims=channels, num_heads=num_heads, dropout=0.0, batch_first=True)
    deformable = dict(**attention, num_levels=3, num_points=num_points, im2col_step=64)
    encoder = dict(
        num_layers=encoder_layers,
        layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn(encoder_ffn)),
    )
    decoder = dict(
        return_intermediate=True,
        num_layers=decoder_layers,
        layer_cfg=dict(
            self_attn_cfg=dict(attention), cross_attn_cfg=dict(attention), ffn_cfg=ffn(decoder_ffn)
        ),
    )
    code = dict(num_feats=channels // 2, normalize=True)
    return dict(
        type='ClipNetwork',
        backbone=backbone,
        track_head=dict(
            type='BoxVISHead',
            in_channels=list(in_channels),
            num_classes=num_classes,
            num_queries=num_queries,
            feat_channels=channels,
            out_channels=mask_channels or channels,
            pixel_decoder=dict(
                type='FrameFeaturesPixelDecoder', encoder=encoder, positional_encoding=code
            ),
            transformer_decoder=decoder,
            positional_encoding=dict(
                type='SinePositionalEncoding3D', **code, paired_frequencies=paired_frequencies
            ),
        ),
    )
