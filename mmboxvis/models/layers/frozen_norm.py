"""Frozen batch norms as part of the convolutions before them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import Conv2dAdaptivePadding, ConvModule
from torch import Tensor, nn


class _ConvWithNorm(nn.Conv2d):
    """A convolution that does what the frozen batch norm behind it would do."""

    frozen_norm: tuple[nn.BatchNorm2d]  # in a tuple, so that it is not registered twice

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, D, H', W')."""
        (norm,) = self.frozen_norm
        if norm.training:
            return self._convolve(x, self.weight, None)
        assert norm.running_var is not None and norm.running_mean is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = norm.bias - norm.running_mean * scale
        return self._convolve(x, self.weight * scale[:, None, None, None], bias)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(x, weight, bias)


class _AdaptiveConvWithNorm(_ConvWithNorm):
    """The same for a convolution that pads as TensorFlow's, the odd pixel right and below."""

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        totals = [
            max((-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
            for side, kernel, stride, dilation in zip(
                x.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True
            )
        ]
        before = [total // 2 for total in totals]
        after = [total - first for total, first in zip(totals, before, strict=True)]
        if before != after:
            x = F.pad(x, [before[1], after[1], before[0], after[0]])
            before = [0, 0]
        return F.conv2d(x, weight, bias, self.stride, before, self.dilation, self.groups)


_WITH_NORM: dict[type, type[_ConvWithNorm]] = {
    nn.Conv2d: _ConvWithNorm,
    Conv2dAdaptivePadding: _AdaptiveConvWithNorm,
}


class _NormInConv(nn.BatchNorm2d):
    """A frozen batch norm whose work its convolution has done."""

    def forward(self, x: Tensor) -> Tensor:
        """Hands on what it gets."""
        return super().forward(x) if self.training else x


def fold_frozen_norms(backbone: nn.Module) -> nn.Module:
    """Lets the convolutions of a backbone do the work of their frozen batch norms.

    ``norm(conv(x))`` with fixed statistics and no trained scale is one convolution with scaled
    weights and a bias. The image-sized result of the convolution alone, which the gradient of
    the norm would keep, is never made: half of the memory that a backbone keeps for the backward
    pass, and a pass over it less. Parameters, their names and gradients stay as they are; results
    differ by rounding.

    Args:
        backbone: an mmdet backbone; one without frozen batch norms in eval mode (``norm_eval``)
            is left as it is.

    Returns:
        The same module.
    """
    if not getattr(backbone, 'norm_eval', False):
        return backbone
    for module in backbone.modules():
        pairs: list[tuple[Any, Any]] = [
            (getattr(module, f'conv{i}', None), getattr(module, f'norm{i}', None))
            for i in (1, 2, 3)
            if hasattr(module, f'norm{i}_name')
        ]
        if isinstance(module, nn.Sequential):
            pairs += zip(list(module)[:-1], list(module)[1:])
        if isinstance(module, ConvModule) and module.order[:2] == ('conv', 'norm'):
            pairs.append((module.conv, module.norm))  # the latter None without a norm
        for conv, norm in pairs:
            if type(conv) in _WITH_NORM and type(norm) is nn.BatchNorm2d and _frozen(conv, norm):
                conv.__class__, norm.__class__ = _WITH_NORM[type(conv)], _NormInConv
                object.__setattr__(conv, 'frozen_norm', (norm,))
    return backbone


def _frozen(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    trained = any(parameter.requires_grad for parameter in norm.parameters())
    return conv.bias is None and norm.affine and norm.track_running_stats and not trained
