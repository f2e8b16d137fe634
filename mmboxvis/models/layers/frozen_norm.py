"""Frozen batch norms as part of the convolutions before them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _ConvWithNorm(nn.Conv2d):
    """A convolution that does what the frozen batch norm behind it would do."""

    frozen_norm: tuple[nn.BatchNorm2d]  # in a tuple, so that it is not registered twice

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, D, H', W')."""
        (norm,) = self.frozen_norm
        if norm.training:
            return super().forward(x)
        assert norm.running_var is not None and norm.running_mean is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = norm.bias - norm.running_mean * scale
        return self._conv_forward(x, self.weight * scale[:, None, None, None], bias)


class _NormInConv(nn.BatchNorm2d):
    """A frozen batch norm whose work its convolution has done."""

    def forward(self, x: Tensor) -> Tensor:
        """Hands on what it gets."""
        return super().forward(x) if self.training else x


def fold_frozen_norms(backbone: nn.Module) -> nn.Module:
    """Lets the convolutions of a ResNet do the work of their frozen batch norms.

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
        pairs = [
            (getattr(module, f'conv{i}', None), getattr(module, f'norm{i}', None))
            for i in (1, 2, 3)
            if hasattr(module, f'norm{i}_name')
        ]
        if isinstance(module, nn.Sequential):
            pairs += zip(list(module)[:-1], list(module)[1:])
        for conv, norm in pairs:
            if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and _frozen(conv, norm):
                conv.__class__, norm.__class__ = _ConvWithNorm, _NormInConv
                object.__setattr__(conv, 'frozen_norm', (norm,))
    return backbone


def _frozen(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    trained = any(parameter.requires_grad for parameter in norm.parameters())
    return conv.bias is None and norm.affine and norm.track_running_stats and not trained
