"""Networks, models and batches small enough for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmboxvis.models.vis import BoxVIS, ClipNetwork, Mask2FormerVIS
from mmboxvis.models.vis.network_cfg import clip_network_cfg
from mmboxvis.registry import MODELS

NUM_CLASSES = 4
NUM_QUERIES = 6
NUM_LAYERS = 2
SIZE = (64, 96)

# instance id -> (label, box xyxy in pixels or None where absent, one a frame)
Instances = dict[int, tuple[int, Sequence[Sequence[float] | None]]]

TWO_OBJECTS: Instances = {
    7: (1, [(4, 6, 40, 50), (6, 6, 44, 50), (9, 7, 47, 52)]),
    3: (2, [(50, 10, 90, 60), None, (44, 12, 88, 62)]),
}


def network_cfg(*, depth: int = 18, num_queries: int = NUM_QUERIES, **kwargs: Any) -> dict:
    """A ResNet with 8 base channels and frozen batch norm, 32 channels behind it."""
    expansion = 4 if depth >= 50 else 1
    backbone = dict(
        type='ResNet',
        depth=depth,
        base_channels=8,
        stem_channels=8,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
    )
    settings = dict(
        in_channels=[8 * expansion * 2**stage for stage in range(4)],
        num_classes=NUM_CLASSES,
        channels=32,
        num_heads=4,
        encoder_layers=1,
        encoder_ffn=32,
        decoder_layers=NUM_LAYERS,
        decoder_ffn=32,
    )
    return clip_network_cfg(backbone=backbone, num_queries=num_queries, **{**settings, **kwargs})


def spread(module: nn.Module, factor: float = 8.0) -> nn.Module:
    """Enlarges class and mask logits, which are all close to 0 in a network not trained."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(('cls_embed.weight', 'mask_embed.4.weight', 'mask_embed.4.bias')):
                parameter.mul_(factor)
    return module


def make_network(**kwargs: Any) -> ClipNetwork:
    return spread(MODELS.build(network_cfg(**kwargs)))


def criterion_cfg(**kwargs: Any) -> dict:
    """The recipe's weights, few points."""
    settings: dict[str, Any] = dict(
        type='BoxSupervisedCriterion',
        assigner=dict(type='BoxSupervisedAssigner', num_points=64),
        loss_proj=dict(type='ProjectionLoss', loss_weight=5.0),
        loss_pair=dict(type='STPALoss', loss_weight=1.0),
        loss_pseudo=dict(type='PseudoMaskLoss', num_points=64),
    )
    return {**settings, **kwargs}


def make_boxvis(network: dict | None = None, **kwargs: Any) -> BoxVIS:
    settings: dict[str, Any] = dict(
        type='BoxVIS',
        network=network or network_cfg(),
        criterion=criterion_cfg(),
        pseudo_masks=dict(type='PseudoMaskGenerator'),
    )
    model = MODELS.build({**settings, **kwargs})
    spread(model.student)
    model.copy_student_to_teacher()
    return model


def make_mask2former_vis(**kwargs: Any) -> Mask2FormerVIS:
    settings: dict[str, Any] = dict(
        type='Mask2FormerVIS',
        network=network_cfg(),
        criterion=dict(
            type='MaskSupervisedCriterion',
            assigner=dict(type='MaskAssigner', num_points=64),
            loss_mask=dict(type='PseudoMaskLoss', mask_weight=5.0, dice_weight=5.0, num_points=64),
        ),
    )
    model = MODELS.build({**settings, **kwargs})
    spread(model.student)
    return model


def make_sample(
    instances: Instances,
    num_frames: int = 3,
    *,
    mask_size: tuple[int, int] | None = None,
    **metainfo: Any,
) -> TrackDataSample:
    """A clip as the pipeline packs it; with filled boxes as masks where ``mask_size`` is given."""
    frames = []
    for t in range(num_frames):
        seen = [(i, label, boxes[t]) for i, (label, boxes) in instances.items() if boxes[t]]
        gt = InstanceData(
            bboxes=torch.tensor([box for *_, box in seen], dtype=torch.float32).view(-1, 4),
            labels=torch.tensor([label for _, label, _ in seen], dtype=torch.long),
            instances_ids=torch.tensor([i for i, *_ in seen], dtype=torch.long),
        )
        if mask_size is not None:
            gt.masks = BitmapMasks(
                np.stack([_filled(box, mask_size) for *_, box in seen])
                if seen
                else np.zeros((0, *mask_size), np.uint8),
                *mask_size,
            )
        frame = DetDataSample(metainfo=dict(frame_id=t))
        frame.gt_instances = gt
        frames.append(frame)
    sample = TrackDataSample(metainfo=metainfo)
    sample.video_data_samples = frames
    return sample


def _filled(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    x1, y1, x2, y2 = (round(value) for value in box)
    mask[y1:y2, x1:x2] = 1
    return mask


def make_clip(num_frames: int = 3, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    """(T, 3, H, W) uint8: smooth colour fields, so that neighbours are alike and areas differ."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num_frames, 3, 4, 6, generator=generator)
    fine = nn.functional.interpolate(coarse, size, mode='bilinear', align_corners=False)
    return (fine * 255).byte()


def make_video(num_frames: int, size: tuple[int, int] = SIZE, seed: int = 0) -> list[np.ndarray]:
    """Frames of (H, W, 3) uint8."""
    return [frame.permute(1, 2, 0).numpy() for frame in make_clip(num_frames, size, seed)]


def make_batch(model: nn.Module, clips: list[Tensor], samples: list[TrackDataSample]) -> dict:
    """What the preprocessor hands to the model in training."""
    return model.data_preprocessor(dict(inputs=clips, data_samples=samples), training=True)
