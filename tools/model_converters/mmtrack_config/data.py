"""Data sets, pipelines, loaders and the metric."""

from __future__ import annotations

import os
import re
from typing import Any

from .settings import ConversionError, Settings, unscoped
from .source import literal


def flat_pipeline(owner: Settings) -> list[Settings]:
    """All transforms in order, those inside a broadcaster too."""
    flat = []
    for transform in owner.parts('pipeline'):
        if 'transforms' in transform:
            transform.skip('type', 'share_random_params')
            flat += transform.parts('transforms')
        else:
            flat.append(transform)
    return flat


def _read_sampling(part: Settings) -> dict[str, int]:
    """``num_frames`` and ``frame_range`` of the clips, from a sampler of reference frames."""
    part.skip('type', 'method', 'filter_key_img')
    part.expect(return_key_img=True)
    given = part.take('frame_range', 10)
    ends = [-given, given] if isinstance(given, int) else given
    if not isinstance(ends, (list, tuple)) or [type(end) for end in ends] != [int, int]:
        raise ConversionError(
            f'{part.path}.frame_range: expected a number or [first, last], got {literal(given)}'
        )
    reach = max(map(abs, ends))
    if -ends[0] != ends[1]:
        part.note(
            f'{part.path}.frame_range = {literal(given)}: here clips reach as far back as ahead, '
            f'{reach} frames'
        )
    return dict(num_frames=int(part.take('num_ref_imgs', 1)) + 1, frame_range=reach)


def _read_scale(part: Settings) -> tuple[list[int], int]:
    """Short edges to choose from, and the longest long edge."""
    part.skip('resize_type', 'backend')
    part.expect(keep_ratio=True)
    scales = part.take('scales') or [part.take('scale')]
    if not all(isinstance(scale, (list, tuple)) and len(scale) == 2 for scale in scales):
        raise ConversionError(f'{part.path}: expected scale=(long, short), got {literal(scales)}')
    longest = sorted({max(scale) for scale in scales})
    if len(longest) > 1:
        part.note(
            f'{part.path}: the long edges {literal(longest)} belong to short edges of their own; '
            f'here {longest[-1]} is the bound of all'
        )
    return sorted({min(scale) for scale in scales}), longest[-1]


def _read_flip(part: Settings) -> float:
    """Probability of a horizontal flip, the only kind here; a list gives one to each direction."""
    directions, prob = part.take('direction', 'horizontal'), part.take('prob', 0.5)
    directions = [directions] if isinstance(directions, str) else list(directions)
    if directions != ['horizontal']:
        part.expect(direction='horizontal')
    if isinstance(prob, (list, tuple)):
        if len(prob) != len(directions):
            raise ConversionError(
                f'{part.path}.prob: expected one for each direction, got {literal(prob)}'
            )
        shares = dict(zip(directions, prob))
    else:
        shares = {direction: prob / len(directions) for direction in directions}
    return shares.get('horizontal', 0)


def _convert_transform(transform: Settings) -> dict[str, Any] | None:
    """One augmentation, or ``None`` where the pipeline has it anyway or nothing like it."""
    kind = transform.kind()
    if kind in ('Resize', 'RandomChoiceResize'):
        edges, max_long = _read_scale(transform)
        return dict(type='ClipResizeShortEdge', short_edges=edges, max_long=max_long, backend='cv2')
    if kind == 'RandomFlip':
        return dict(type='ClipRandomFlip', prob=_read_flip(transform))
    if kind == 'LoadImageFromFile':
        transform.skip('to_float32', 'backend_args', 'file_client_args')
    elif kind == 'LoadTrackAnnotations':
        transform.skip('with_bbox', 'with_label', 'with_mask', 'with_instance_id')
    elif kind == 'PackTrackInputs':
        transform.skip('ref_prefix', 'num_key_frames', 'pack_single_img', 'meta_keys')
    else:
        transform.refuse('has no counterpart and is left out')
    return None


def convert_training_set(dataset: Settings, boxes_only: bool) -> dict[str, Any]:
    """The training data set with its clips and its pipeline."""
    converted = _convert_set(dataset)
    clip: dict[str, int] = {}
    if 'ref_img_sampler' in dataset:
        clip = _read_sampling(dataset.part('ref_img_sampler'))
    augmentations = []
    for transform in flat_pipeline(dataset):
        if unscoped(str(transform.peek('type'))) == 'UniformRefFrameSample':
            clip = _read_sampling(transform)
        elif (augmentation := _convert_transform(transform)) is not None:
            augmentations.append(augmentation)
    if clip:
        converted['clip'] = clip
    if not boxes_only:
        converted['load_masks'] = True
    load = [dict(type='LoadClipFrames'), dict(type='LoadClipAnnotations')]
    return dict(converted, pipeline=[*load, *augmentations, dict(type='PackClipInputs')])


def convert_test_set(dataset: Settings) -> dict[str, Any]:
    """A data set of whole videos; of its pipeline only the size of the frames matters."""
    converted = _convert_set(dataset)
    dataset.skip('ref_img_sampler')
    pipeline = []
    for transform in flat_pipeline(dataset):
        if unscoped(str(transform.peek('type'))) == 'Resize':
            transform.skip('type')
            edges, max_long = _read_scale(transform)
            pipeline.append(dict(type='Resize', scale=(max_long, edges[0]), keep_ratio=True))
        elif _convert_transform(transform) is not None:
            transform.refuse('is no transform of a test and is left out')
    return dict(converted, test_mode=True, pipeline=pipeline)


def _convert_set(dataset: Settings) -> dict[str, Any]:
    """What training and test sets have in common."""
    kind = dataset.kind()
    if 'ann_file' not in dataset:
        raise ConversionError(
            f'{dataset.path}: {kind} has no ann_file; convert configs of single data sets'
        )
    root, ann_file = dataset.take('data_root', ''), dataset.take('ann_file')
    converted = dict(type='BoxVideo', data_root=root, ann_file=ann_file)
    if kind == 'YouTubeVISDataset':
        version = str(dataset.take('dataset_version', ''))
        years = re.findall('2019|2021|2022', f'{version} {root} {ann_file}')
        if not years:
            raise ConversionError(f'{dataset.path}: no dataset_version, and no year in the paths')
        converted.update(type='YouTubeVIS', version=years[0])
    elif kind not in ('BaseVideoDataset', 'CocoVideoDataset'):
        dataset.note(f'{dataset.path}.type = {kind!r} is read as BoxVideo, our general data set')
    prefix = dataset.part('data_prefix')
    converted['img_root'] = prefix.take('img_path', prefix.take('img', ''))
    classes = dataset.part('metainfo').take('classes')
    if classes is not None:
        converted['classes'] = classes
    converted['filter_empty'] = dataset.part('filter_cfg').take('filter_empty_gt', True)
    dataset.skip('test_mode', 'load_as_video', 'backend_args', 'key_img_sampler')
    dataset.note(
        'ann_file: mmtrack and mmdet read CocoVID, a json that youtubevis2coco.py made; name the '
        'YouTube-VIS json it was made of, or make one of it: '
        'tools/dataset_converters/import_boxes.py --from coco-vid --keep-masks'
    )
    return converted


def convert_loader(loader: Settings, dataset: dict[str, Any], training: bool) -> dict[str, Any]:
    """A data loader around a converted data set."""
    converted: dict[str, Any] = {}
    for key in ('batch_size', 'num_workers', 'persistent_workers', 'drop_last', 'pin_memory'):
        if key in loader:
            converted[key] = loader.take(key)
    sampler = loader.part('sampler')
    kind = sampler.kind()
    shuffle = sampler.take('shuffle', training)
    if training:
        sampler.skip('round_up')
        if kind not in ('', 'DefaultSampler', 'InfiniteSampler'):
            sampler.note(f'{sampler.path}: {kind} draws frames or mixes sets; here clips are drawn')
        converted['sampler'] = dict(type='InfiniteSampler', shuffle=shuffle)
        if 'AspectRatio' in loader.part('batch_sampler').kind():
            converted['batch_sampler'] = dict(type='OrientationBatchSampler')
    else:
        # a rounded-up number of videos would score some of them twice
        sampler.skip('round_up')
        loader.skip('batch_sampler')
        converted['sampler'] = dict(type='DefaultSampler', shuffle=False, round_up=False)
    return dict(converted, dataset=dataset)


def convert_evaluator(evaluator: Settings, dataset: dict[str, Any]) -> dict[str, Any]:
    """The metric; it reads the annotations from their file, so it has to know it."""
    if evaluator.kind() != 'YouTubeVISMetric':
        evaluator.refuse('is replaced by VISMetric')
    evaluator.skip('metric')
    ann_file = evaluator.take('ann_file', os.path.join(dataset['data_root'], dataset['ann_file']))
    converted = dict(type='VISMetric', ann_file=ann_file)
    for key in ('format_only', 'outfile_prefix'):
        if key in evaluator:
            converted[key] = evaluator.take(key)
    return converted
