"""mmdet's query decoder with keys and values projected apart from the attention.

B clips of T frames, Q queries, S tokens a frame, C channels.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import FFN, MultiheadAttention
from mmdet.models.layers import Mask2FormerTransformerDecoder
from mmdet.models.layers.transformer.mask2former_layers import Mask2FormerTransformerDecoderLayer
from mmengine.model import ModuleList
from torch import Tensor


class ProjectedCrossAttention(MultiheadAttention):
    """mmcv's ``MultiheadAttention`` in two steps, with the same parameters and result.

    :meth:`project` turns the tokens of frames into keys and values, which can be kept and attended
    to by every clip that holds the frame: the position in time is added to the keys later, after
    the projection, which is linear. ``forward`` attends with torch's fused kernel, which writes no
    map of weights.

    Args:
        embed_dims: C.
        num_heads: heads, a divisor of C.
        kwargs: the other arguments of mmcv's class; ``batch_first`` must hold.

    Raises:
        ValueError: where keys and values would have channels or entries of their own.
    """

    def __init__(self, embed_dims: int, num_heads: int, **kwargs: Any) -> None:
        super().__init__(embed_dims, num_heads, **kwargs)
        odd = {'kdim', 'vdim', 'add_bias_kv', 'add_zero_attn'} & kwargs.keys()
        if odd or not self.batch_first:
            raise ValueError(
                f'cross attention over projected tokens needs batch_first=True and none of '
                f'{sorted(odd) or "kdim, vdim, add_bias_kv, add_zero_attn"}'
            )

    def project(self, tokens: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Keys ``W_k (tokens + code) + b_k`` and values ``W_v tokens + b_v``.

        Args:
            tokens: (..., S, C).
            code: position in the frame, (S, C).
        """
        _, weight_k, weight_v = self.attn.in_proj_weight.chunk(3)
        _, bias_k, bias_v = self._biases()
        return F.linear(tokens + code, weight_k, bias_k), F.linear(tokens, weight_v, bias_v)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        query_pos: Tensor,
        time_code: Tensor,
        visible: Tensor,
    ) -> Tensor:
        """Attends, and adds the query.

        Args:
            query: (B, Q, C).
            keys: (B, T, S, C) from :meth:`project`.
            values: (B, T, S, C) from :meth:`project`.
            query_pos: (B, Q, C), added to the query.
            time_code: (T, C), position in time of the frames.
            visible: (B, Q, T * S) bool, which tokens a query sees; at least one.

        Returns:
            (B, Q, C).
        """
        weight_k = self.attn.in_proj_weight.chunk(3)[1]
        keys = (keys + F.linear(time_code.to(keys.dtype), weight_k)[:, None]).flatten(1, 2)
        values = values.flatten(1, 2)
        weight_q, bias_q = self.attn.in_proj_weight.chunk(3)[0], self._biases()[0]
        queries = F.linear(query + query_pos, weight_q, bias_q)
        queries, keys, values = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (queries, keys, values)
        )
        attended = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=visible[:, None],
            dropout_p=self.attn.dropout if self.training else 0.0,
        )
        out = self.attn.out_proj(attended.transpose(1, 2).flatten(2))
        return query + self.dropout_layer(self.proj_drop(out))

    def _biases(self) -> tuple[Tensor | None, ...]:
        bias = self.attn.in_proj_bias
        return (None, None, None) if bias is None else bias.chunk(3)


class QueryDecoderLayer(Mask2FormerTransformerDecoderLayer):
    """mmdet's layer, cross attention first, over projected tokens."""

    def _init_layers(self) -> None:
        self.self_attn = MultiheadAttention(**self.self_attn_cfg)
        self.cross_attn = ProjectedCrossAttention(**self.cross_attn_cfg)
        self.embed_dims = self.self_attn.embed_dims
        self.ffn = FFN(**self.ffn_cfg)
        self.norms = ModuleList(
            build_norm_layer(self.norm_cfg, self.embed_dims)[1] for _ in range(3)
        )

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        query_pos: Tensor,
        time_code: Tensor,
        visible: Tensor,
    ) -> Tensor:
        """Arguments and result as :meth:`ProjectedCrossAttention.forward`."""
        query = self.cross_attn(
            query, keys, values, query_pos=query_pos, time_code=time_code, visible=visible
        )
        query = self.norms[0](query)
        query = self.self_attn(query, query, query, query_pos=query_pos, key_pos=query_pos)
        query = self.norms[1](query)
        return self.norms[2](self.ffn(query))


class QueryDecoder(Mask2FormerTransformerDecoder):
    """mmdet's ``Mask2FormerTransformerDecoder`` made of :class:`QueryDecoderLayer`.

    The parameters and their names are mmdet's. Who owns it calls its layers, between which the
    masks are predicted.
    """

    def _init_layers(self) -> None:
        self.layers = ModuleList(
            QueryDecoderLayer(**self.layer_cfg) for _ in range(self.num_layers)
        )
        self.embed_dims = self.layers[0].embed_dims
        self.post_norm = build_norm_layer(self.post_norm_cfg, self.embed_dims)[1]
