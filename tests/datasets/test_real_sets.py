"""The small real sets, and how they are mixed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, pseudo_collate
from torch.utils.data import DataLoader

from mmboxvis.datasets import BVISD, BoxVideo, CocoClips, MixedSampler
from mmboxvis.structures import ClipTargets

CLASSES = (
    'person', 'bird', 'camel', 'car', 'cow', 'dog', 'bicycle', 'horse', 'goat', 'backpack',
)  # fmt: skip

VIDEO_PIPELINE: list[dict[str, Any]] = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(type='ClipResizeShortEdge', short_edges=(96, 128), max_long=200),
    dict(type='ClipRandomFlip'),
    dict(type='PackClipInputs'),
]

IMAGE_PIPELINE: list[dict[str, Any]] = [
    dict(type='LoadClipFrames'),
    dict(type='LoadClipAnnotations'),
    dict(type='ImageToClip', num_frames=3),
    dict(type='ClipResizeShortEdge', short_edges=(200, 300), max_long=500),
    dict(type='ClipRandomCrop', min_size=100, max_size=200),
    dict(type='ClipResizeShortEdge', short_edges=(96, 128), max_long=200),
    dict(type='ClipRandomFlip'),
    dict(type='ClipRotate'),
    dict(type='PackClipInputs'),
]


def davis(real_data: Path, **arguments: Any) -> BoxVideo:
    defaults = dict(
        ann_file='boxes.json', data_root=str(real_data / 'davis_mini'), img_root='JPEGImages',
        pipeline=VIDEO_PIPELINE,
    )  # fmt: skip
    return BoxVideo(**dict(defaults, **arguments))


def coco(real_data: Path, **arguments: Any) -> CocoClips:
    defaults = dict(
        ann_file='instances.json', data_root=str(real_data / 'coco_mini'), img_root='images',
        pipeline=IMAGE_PIPELINE,
    )  # fmt: skip
    return CocoClips(**dict(defaults, **arguments))


@pytest.mark.parametrize('box_source', ['box', 'mask'])
def test_davis(real_data, box_source):
    masked = box_source == 'mask'
    dataset = davis(
        real_data, ann_file='instances.json' if masked else 'boxes.json', box_source=box_source,
        load_masks=masked,
    )  # fmt: skip
    assert len(dataset) == 9 and dataset.metainfo['classes'] == CLASSES
    for index in range(9):
        item = dataset[index]
        targets = ClipTargets.from_data_sample(item['data_samples'], item['inputs'].shape[2:])
        assert len(targets) >= 1
        if masked:
            assert (targets.masks <= targets.box_masks).all()


def test_davis_test(real_data):
    pipeline = [dict(type='Resize', scale=(1333, 120), keep_ratio=True, backend='pillow')]
    for name in ('boxes.json', 'instances.json'):
        item = davis(real_data, ann_file=name, test_mode=True, pipeline=pipeline)[0]
        assert item['data_samples'].ori_shape == (240, 427)
        assert item['inputs'][23].shape == (120, 214, 3)


@pytest.mark.parametrize('box_source', ['box', 'mask'])
def test_coco(real_data, box_source):
    dataset = coco(real_data, box_source=box_source, load_masks=True)
    assert 70 <= len(dataset) <= 80
    for index in range(0, len(dataset), 6):
        for frame in dataset[index]['data_samples'].video_data_samples:
            instances = frame.gt_instances
            assert len(instances.masks) == len(instances.bboxes)
            if box_source == 'mask':
                assert (instances.masks.areas > 0).all()


def test_mixture(real_data):
    shared = dict(classes=CLASSES, unknown_categories='drop')
    mixed = ConcatDataset([davis(real_data, **shared), coco(real_data, **shared)])
    sampler = MixedSampler(mixed, [3, 1], seed=0, same_orientation=2)
    share = np.mean([index < 9 for index in itertools.islice(sampler, 2000)])
    assert abs(share - 0.75) < 0.05
    loader = DataLoader(mixed, batch_size=2, sampler=sampler, collate_fn=pseudo_collate)
    for batch in itertools.islice(loader, 4):
        wide = [clip.shape[-1] >= clip.shape[-2] for clip in batch['inputs']]
        assert len(wide) == 2
        for targets in ClipTargets.from_data_samples(batch['data_samples'], (224, 224)):
            assert (targets.labels < len(CLASSES)).all()


def test_coco_as_part_of_bvisd(real_data):
    part = dict(
        ann_file='instances.json', data_root=str(real_data / 'coco_mini'), img_root='images',
        pipeline=IMAGE_PIPELINE,
    )  # fmt: skip
    mixed = BVISD(coco=part)
    labels = {
        int(label)
        for index in range(len(mixed))
        for label in mixed.datasets[0].get_data_info(index)['instances'].labels
    }
    names = {mixed.metainfo['classes'][label] for label in labels}
    assert 'person' in names and names <= {
        'airplane', 'bear', 'bird', 'boat', 'vehicle', 'cat', 'cow', 'dog', 'elephant',
        'flying_disc', 'giraffe', 'horse', 'motorbike', 'person', 'skateboard', 'snowboard',
        'surfboard', 'tennis_racket', 'train', 'turtle', 'zebra', 'sheep',
    }  # fmt: skip
