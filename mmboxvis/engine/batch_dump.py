"""A training step on file: enough to run it again elsewhere.

The file holds tensors and plain values only, and loads with ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from .checkpoint_files import plain

FORMAT = 1
"""Number of the layout, kept in each file."""

_INSTANCE_FIELDS = ('bboxes', 'labels', 'instances_ids')


def describe_batch(batch: Mapping[str, Any]) -> list[str]:
    """Video and frames of each clip, such as ``park (id 7), frames 3 5 6``."""
    lines = []
    for sample in batch['data_samples']:
        frames = sample.metainfo.get('frame_ids')
        if frames is None:
            frames = [frame.metainfo.get('frame_id') for frame in sample]
        name, number = (sample.metainfo.get(key) for key in ('video_name', 'video_id'))
        lines.append(f'{name} (id {number}), frames {" ".join(map(str, frames))}')
    return lines


def pack_batch(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A batch of the data loader as tensors and plain values, one dict a clip.

    Args:
        batch: ``inputs``, B clips (T, 3, H, W) uint8, and ``data_samples``, as
            :class:`~mmboxvis.datasets.transforms.PackClipInputs` makes them.
    """
    return [
        dict(
            inputs=inputs.cpu(),
            metainfo=_metainfo(sample),
            frames=[_pack_frame(frame) for frame in sample],
        )
        for inputs, sample in zip(batch['inputs'], batch['data_samples'], strict=True)
    ]


def unpack_batch(clips: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reverse of :func:`pack_batch`."""
    samples = []
    for clip in clips:
        sample = TrackDataSample(metainfo=dict(clip['metainfo']))
        sample.video_data_samples = [_unpack_frame(frame) for frame in clip['frames']]
        samples.append(sample)
    return dict(inputs=[clip['inputs'] for clip in clips], data_samples=samples)


def _pack_frame(frame: DetDataSample) -> dict[str, Any]:
    instances = frame.gt_instances
    packed = {name: instances[name].cpu() for name in _INSTANCE_FIELDS}
    if 'masks' in instances:
        packed['masks'] = torch.from_numpy(np.ascontiguousarray(instances.masks.masks))
    return dict(metainfo=_metainfo(frame), instances=packed)


def _unpack_frame(packed: Mapping[str, Any]) -> DetDataSample:
    frame = DetDataSample(metainfo=dict(packed['metainfo']))
    fields = dict(packed['instances'])
    masks = fields.pop('masks', None)
    frame.gt_instances = InstanceData(**fields)
    if masks is not None:
        frame.gt_instances.masks = BitmapMasks(masks.numpy(), *masks.shape[-2:])
    return frame


def _metainfo(sample: DetDataSample | TrackDataSample) -> dict[str, Any]:
    """The plain values of a sample's meta information; others as text."""
    kept = (str, int, float, bool, tuple, list, dict, type(None))
    values = {name: plain(value) for name, value in sample.metainfo.items()}
    return {name: x if isinstance(x, kept) else str(x) for name, x in values.items()}
