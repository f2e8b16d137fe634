from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmboxvis.models.layers.frozen_norm import fold_frozen_norms
from mmboxvis.registry import MODELS
from tests.models.tiny import network_cfg


def make_backbone(**kwargs) -> nn.Module:
    if kwargs.get('type') != 'EfficientNetLite0':
        kwargs = {**network_cfg(depth=50)['backbone'], **kwargs}
    backbone = MODELS.build(kwargs)
    backbone.train()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.bias.data, module.running_mean):
                values.add_(0.1 * torch.randn_like(values))
            module.running_var.mul_(1 + torch.rand_like(module.running_var))
    return backbone


LITE = dict(type='EfficientNetLite0', pretrained=False)


@pytest.mark.parametrize(
    ('kwargs', 'size'),
    [({}, (64, 96)), (LITE, (64, 96)), (LITE, (33, 71)), (dict(LITE, with_cp=True), (32, 32))],
    ids=['resnet', 'lite', 'lite-odd', 'lite-recomputed'],
)
def test_same_maps_gradients_and_names(kwargs, size):
    plain = make_backbone(**kwargs)
    folded = fold_frozen_norms(copy.deepcopy(plain))
    assert list(plain.state_dict()) == list(folded.state_dict())
    assert any(
        type(module) is not type(twin) for module, twin in zip(plain.modules(), folded.modules())
    )
    frames = torch.randn(2, 3, *size)
    for expected, maps in zip(plain(frames), folded(frames), strict=True):
        torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4)
    for backbone in (plain, folded):
        sum(maps.square().mean() for maps in backbone(frames)).backward()
    grads = dict(folded.named_parameters())
    for name, parameter in plain.named_parameters():
        assert parameter.requires_grad == grads[name].requires_grad, name
        if parameter.requires_grad:
            torch.testing.assert_close(grads[name].grad, parameter.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize('kwargs', [{}, LITE], ids=['resnet', 'lite'])
def test_keeps_less_for_the_gradient_and_a_copy_uses_its_own_norms(kwargs):
    kept: dict[int, int] = {}

    def count(tensor):
        if tensor.dim() == 4 and len(tensor) == 2:  # maps of two frames, not weights
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    sizes = []
    for backbone in (make_backbone(**kwargs), fold_frozen_norms(make_backbone(**kwargs))):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            maps = backbone(torch.randn(2, 3, 64, 96))
        sizes.append(sum(kept.values()))
    assert sizes[1] < 0.65 * sizes[0]

    twin = copy.deepcopy(backbone)
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.add_(1)
    frames = torch.randn(2, 3, 64, 96)
    assert not torch.allclose(twin(frames)[0], backbone(frames)[0])
    assert len(maps) == 4


def test_trained_or_moving_norms_are_left_alone():
    trained = dict(norm_cfg=dict(type='BN', requires_grad=True))
    for kwargs in (trained, dict(norm_eval=False)):
        backbone = fold_frozen_norms(make_backbone(**kwargs))
        assert all(type(m) is nn.Conv2d for m in backbone.modules() if isinstance(m, nn.Conv2d))
