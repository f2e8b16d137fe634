"""Turns a VIS config of mmtrack 1.x into one for this package.

    python tools/model_converters/from_mmtrack_config.py SRC DST [--boxes-only]

SRC is a Mask2Former config for video instance segmentation, of mmtrack 1.x or of mmdet 3.x, into
which it moved; its ``_base_`` files are read too. DST describes the same network, data and
schedule, as Mask2FormerVIS, or with --boxes-only as BoxVIS, which learns from the boxes alone.

Every setting of SRC is carried over, or has no effect here, or is named in comments at the top of
DST, which are printed as well.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import keyword
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner

from mmboxvis.files import whole_file
from mmboxvis.models.vis.network_cfg import clip_network_cfg
from mmboxvis.registry import (
    HOOKS,
    LOG_PROCESSORS,
    LOOPS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    VISBACKENDS,
)

SCOPES = ('mmtrack', 'mmdet', 'mmcls', 'mmpretrain', 'mmengine', 'mmcv')
MODEL_TYPES = ('Mask2Former', 'Mask2FormerVideo')
HEAD_TYPES = ('Mask2FormerHead', 'Mask2FormerTrackHead')

# what a config may do while it is read: build values, nothing else
SAFE_CALLS = {
    'dict', 'list', 'tuple', 'set', 'range', 'len', 'int', 'float', 'str', 'bool', 'min', 'max',
    'sum', 'sorted', 'zip', 'enumerate', 'abs', 'round', 'update', 'items', 'keys', 'values', 'get',
    'copy', 'append', 'extend', 'join', 'replace', 'split',
}  # fmt: skip
FORBIDDEN = (
    ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda,
    ast.With, ast.Global, ast.While, ast.Try, ast.Delete,
)  # fmt: skip


class ConversionError(ValueError):
    """The config cannot be converted; the message is one line."""


# ------------------------------------------------------------------ reading


class Settings:
    """A section of a config that remembers what was read of it.

    What nobody has read when the conversion is done, :meth:`left` lists: so nothing is lost
    silently. A setting of ``None`` counts as absent.

    Args:
        content: the section.
        path: its name, for messages.
        notes: collects what is to be said of settings that were read.
    """

    def __init__(self, content: Mapping[str, Any], path: str, notes: list[str]) -> None:
        self.path = path
        self.notes = notes
        self._content = {key: value for key, value in content.items() if value is not None}
        self._unread = dict.fromkeys(self._content)
        self._parts: dict[str, list[Settings]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def take(self, key: str, default: Any = None) -> Any:
        """Reads one setting as it stands."""
        self._unread.pop(key, None)
        return self._content.get(key, default)

    def peek(self, key: str) -> Any:
        """Looks at a setting; it still counts as unread."""
        return self._content.get(key)

    def everything(self) -> dict[str, Any]:
        """Reads what is left of the section."""
        content = {key: self._content[key] for key in self._unread}
        self._unread.clear()
        return content

    def skip(self, *keys: str) -> None:
        """Marks settings that have no effect here as read."""
        for key in keys:
            self._unread.pop(key, None)

    def kind(self) -> str:
        """Reads ``type``, without the name of a package."""
        return unscoped(str(self.take('type', '')))

    def expect(self, **settings: Any) -> None:
        """Reads settings that are fixed here; others than these are noted."""
        for key, value in settings.items():
            got = self.take(key, value)
            if _plain(got) != _plain(value):
                self.note(f'{self.path}.{key} = {literal(got)}: here it is {literal(value)}')

    def part(self, key: str) -> Settings:
        """Reads a nested section; an empty one where there is none."""
        return self.parts(key, at_most_one=True)[0]

    def parts(self, key: str, *, at_most_one: bool = False) -> list[Settings]:
        """Reads a list of sections, or a section in place of a list of one."""
        if key in self._parts:
            return self._parts[key]
        value = self.take(key)
        single = isinstance(value, Mapping) or (value is None and at_most_one)
        values = [value or {}] if single else list(value or [])
        if not all(isinstance(content, Mapping) for content in values):
            raise ConversionError(f'{self.path}.{key}: expected dict(...), got {literal(value)}')
        if at_most_one and len(values) != 1:
            raise ConversionError(f'{self.path}.{key}: expected one dict, got {len(values)}')
        root = f'{self.path}.{key}' if self.path else key
        self._parts[key] = [
            Settings(content, root if single else f'{root}[{i}]', self.notes)
            for i, content in enumerate(values)
        ]
        return self._parts[key]

    def refuse(self, why: str) -> None:
        """Reads all of a section that cannot be carried over, and says so in one line."""
        self.note(f'{self.path} = {literal(self._content)}: {why}')
        self._unread.clear()

    def note(self, text: str) -> None:
        """Says something of what was read."""
        if text not in self.notes:
            self.notes.append(text)

    def left(self) -> Iterator[str]:
        """What nobody has read."""
        for key in self._unread:
            name = f'{self.path}.{key}' if self.path else key
            yield f'{name} = {literal(self._content[key])}'
        for parts in self._parts.values():
            for part in parts:
                yield from part.left()


def _plain(value: Any) -> Any:
    """Lists as tuples, so that the two compare."""
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def unscoped(name: str) -> str:
    """``mmdet.ResNet`` to ``ResNet``."""
    scope, _, rest = name.partition('.')
    return rest if rest and scope in SCOPES else name


def unscope(value: Any) -> Any:
    """Drops package names from all ``type`` entries of a nested value."""
    if isinstance(value, Mapping):
        return {
            key: unscoped(entry) if key == 'type' and isinstance(entry, str) else unscope(entry)
            for key, entry in value.items()
            if key != '_scope_'
        }
    if isinstance(value, (list, tuple)):
        return type(value)(unscope(entry) for entry in value)
    return value


def check_is_data(path: Path, seen: frozenset[Path] = frozenset()) -> None:
    """Refuses a config that does more than to build values, before mmengine executes it.

    Raises:
        ConversionError: if the file or one of its bases is missing, is no Python, imports or
            defines something, or calls what is not in :data:`SAFE_CALLS`.
    """
    if not path.is_file():
        raise ConversionError(f'there is no config {path}')
    if path in seen:
        raise ConversionError(f'{path} is a base of itself')
    try:
        tree = ast.parse(path.read_text(encoding='utf-8'))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ConversionError(f'{path} is no Python config: {error}') from error
    for node in ast.walk(tree):
        name = None
        if isinstance(node, FORBIDDEN):
            name = type(node).__name__
        elif isinstance(node, ast.Attribute) and node.attr.startswith('_'):
            name = f'.{node.attr}'
        elif isinstance(node, ast.Call):
            called = getattr(node.func, 'attr', getattr(node.func, 'id', 'an expression'))
            name = None if called in SAFE_CALLS else f'a call of {called}'
        if name is not None:
            raise ConversionError(
                f'{path}, line {getattr(node, "lineno", "?")}: {name} is not read from a config '
                'of others; write its value in place of it'
            )
    for base in _bases(tree, path):
        # package::file is a file of an installed package
        if '::' not in base:
            check_is_data((path.parent / base).resolve(), seen | {path})


def _bases(tree: ast.Module, path: Path) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_base_':
            try:
                value = ast.literal_eval(node.value)
            except ValueError as error:
                raise ConversionError(f'{path}: _base_ must be a list of file names') from error
            return [value] if isinstance(value, str) else list(value)
    return []


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The config with its bases, nothing imported.

    Raises:
        ConversionError: see :func:`check_is_data`, or what mmengine says of it.
    """
    check_is_data(Path(path).resolve())
    try:
        cfg = Config.fromfile(
            path,
            import_custom_modules=False,
            use_environment_variables=False,
            lazy_import=False,
        )
    except Exception as error:  # mmengine raises whatever the config's code raises
        raise ConversionError(f'{path}: {type(error).__name__}: {error}') from error
    return cfg.to_dict()


# ------------------------------------------------------------------ the model


def convert_model(model: Settings, boxes_only: bool, clip_length: int | None) -> dict[str, Any]:
    """The model, with a network of the same layout of parameters.

    Args:
        model: its section.
        boxes_only: BoxVIS in place of Mask2FormerVIS.
        clip_length: frames of a training clip, where the data tells.
    """
    kind = model.kind()
    if kind not in MODEL_TYPES or 'track_head' not in model:
        raise ConversionError(
            f'model.type is {kind!r}, with {"" if "track_head" in model else "no "}track_head: '
            f'only {" and ".join(MODEL_TYPES)} with a track_head can be converted'
        )
    head = model.part('track_head')
    if (head_kind := head.kind()) not in HEAD_TYPES:
        raise ConversionError(f'model.track_head.type is {head_kind!r}, not one of {HEAD_TYPES}')
    backbone = unscope(model.take('backbone', {}))
    if MODELS.get(backbone.get('type', '')) is None:
        raise ConversionError(f'model.backbone.type {backbone.get("type")!r} is no model of mmdet')
    head_frames = head.take('num_frames', clip_length or 2)
    if clip_length not in (None, head_frames):
        head.note(
            f'model.track_head.num_frames = {head_frames}, but the data give clips of '
            f'{clip_length}: the clip length of the data is kept'
        )
    frames = clip_length or head_frames
    head.note(
        f'tests: mmtrack takes a video as one clip; here clips of {frames} frames are joined by a '
        'tracker, see model.test_cfg'
    )
    converted = dict(
        type='BoxVIS' if boxes_only else 'Mask2FormerVIS',
        data_preprocessor=_convert_preprocessor(model.part('data_preprocessor')),
        network=_convert_network(head, backbone),
    )
    if boxes_only:
        converted['pseudo_masks'] = dict(type='PseudoMaskGenerator')
        converted['confidence'] = dict(type='ConfidenceSchedule', mode='rising')
    converted['criterion'] = _convert_losses(head, boxes_only, frames)
    converted['test_cfg'] = dict(
        tracker=dict(type='QueryTracker'), clip_length=frames, clip_stride=1
    )
    return converted


def _convert_preprocessor(part: Settings) -> dict[str, Any]:
    part.skip('type', 'pad_mask')
    part.expect(rgb_to_bgr=False, pad_value=0, mask_pad_value=0)
    converted = dict(type='ClipDataPreprocessor')
    for key in ('mean', 'std', 'bgr_to_rgb', 'pad_size_divisor'):
        if key in part:
            converted[key] = part.take(key)
    return converted


def _convert_network(head: Settings, backbone: dict[str, Any]) -> dict[str, Any]:
    num_classes = head.take('num_classes', head.take('num_things_classes'))
    if num_classes is None:
        raise ConversionError('model.track_head.num_classes is missing')
    channels = head.take('feat_channels', 256)
    head.expect(
        strides=[4, 8, 16, 32],
        num_stuff_classes=0,
        num_transformer_feat_level=3,
        enforce_decoder_input_project=False,
        init_cfg=None,
    )
    pixel = head.part('pixel_decoder')
    pixel.skip('type')
    pixel.expect(num_outs=3, norm_cfg=dict(type='GN', num_groups=32), init_cfg=None)
    act = pixel.part('act_cfg')
    act.skip('inplace')
    act.expect(type='ReLU')
    for owner in (pixel, head):
        code = owner.part('positional_encoding')
        code.skip('type')
        code.expect(num_feats=channels // 2, normalize=True)
    encoder = _read_layers(pixel.part('encoder'), channels, ('self_attn', 'norm', 'ffn', 'norm'))
    decoder = _read_layers(
        head.part('transformer_decoder'),
        channels,
        ('cross_attn', 'norm', 'self_attn', 'norm', 'ffn', 'norm'),
    )
    if encoder.get('num_heads', 8) != decoder.get('num_heads', 8):
        raise ConversionError('both decoders must have the same number of attention heads')
    return clip_network_cfg(
        backbone=backbone,
        in_channels=head.take('in_channels', [256, 512, 1024, 2048]),
        num_classes=num_classes,
        num_queries=head.take('num_queries', 100),
        channels=channels,
        mask_channels=head.take('out_channels', channels),
        num_heads=decoder.get('num_heads', 8),
        num_points=encoder.get('num_points', 4),
        encoder_layers=encoder.get('num_layers', 6),
        encoder_ffn=encoder.get('feedforward_channels', 1024),
        decoder_layers=decoder.get('num_layers', 9),
        decoder_ffn=decoder.get('feedforward_channels', 2048),
        # the code of mmdet and mmtrack, with which their weights were trained
        paired_frequencies=True,
    )


def _read_layers(stack: Settings, channels: int, order: Sequence[str]) -> dict[str, int]:
    """Sizes of a stack of layers, in mmdet 3's words or in those of its 2.x."""
    stack.skip('type', 'return_intermediate')
    stack.expect(init_cfg=None)
    stack.part('post_norm_cfg').expect(type='LN')
    sizes = {key: stack.take(key) for key in ('num_layers',) if key in stack}
    layer = stack.part('layer_cfg' if 'layer_cfg' in stack else 'transformerlayers')
    layer.skip('type')
    layer.expect(operation_order=order)
    for key in ('self_attn_cfg', 'cross_attn_cfg', 'attn_cfgs'):
        for attention in layer.parts(key):
            # the layout of a batch and the size of a step change no number
            attention.skip('type', 'batch_first', 'im2col_step')
            attention.expect(embed_dims=channels, num_levels=3, dropout=0.0, attn_drop=0.0)
            attention.expect(proj_drop=0.0, dropout_layer=None, norm_cfg=None, init_cfg=None)
            for size in ('num_heads', 'num_points'):
                if size in attention:
                    sizes[size] = attention.take(size)
    if 'feedforward_channels' in layer:
        sizes['feedforward_channels'] = layer.take('feedforward_channels')
    for key in ('ffn_cfg', 'ffn_cfgs'):
        for ffn in layer.parts(key):
            ffn.skip('type')
            ffn.expect(embed_dims=channels, num_fcs=2, ffn_drop=0.0, add_identity=True)
            ffn.expect(dropout_layer=None)
            act = ffn.part('act_cfg')
            act.skip('inplace')
            act.expect(type='ReLU')
            if 'feedforward_channels' in ffn:
                sizes['feedforward_channels'] = ffn.take('feedforward_channels')
    return sizes


def _convert_losses(head: Settings, boxes_only: bool, num_frames: int) -> dict[str, Any]:
    """The criterion: weights of losses and of matching, and how points are sampled."""
    loss_cls, loss_mask, loss_dice = (head.part(f'loss_{name}') for name in ('cls', 'mask', 'dice'))
    for loss in (loss_cls, loss_mask, loss_dice):
        loss.skip('type')
        loss.expect(reduction='mean')
    loss_cls.expect(use_sigmoid=False)
    loss_mask.expect(use_sigmoid=True)
    loss_dice.expect(use_sigmoid=True, activate=True, naive_dice=True, eps=1.0)
    class_weight = list(loss_cls.take('class_weight', [0.1]))
    if any(weight != 1 for weight in class_weight[:-1]):
        loss_cls.note('model.track_head.loss_cls.class_weight: here all classes weigh 1')
    shared = dict(cls_weight=loss_cls.take('loss_weight', 2.0), no_object_weight=class_weight[-1])
    weights = dict(
        mask_weight=loss_mask.take('loss_weight', 5.0),
        dice_weight=loss_dice.take('loss_weight', 5.0),
    )
    train_cfg = head.part('train_cfg')
    train_cfg.part('sampler').skip('type')
    points = {
        key: train_cfg.take(key, default)
        for key, default in (
            ('num_points', 12544),
            ('oversample_ratio', 3.0),
            ('importance_sample_ratio', 0.75),
        )
    }
    costs = _read_costs(train_cfg.part('assigner'))
    if boxes_only:
        return _box_criterion(head, shared, costs, points)
    head.note(
        f'mask loss: mmtrack multiplies the cross-entropy by the {num_frames} frames of a clip, '
        'the released Mask2Former and this package do not. The weight is kept; for the same loss '
        f'multiply mask_weight of loss_mask by {num_frames}'
    )
    return dict(
        type='MaskSupervisedCriterion',
        **shared,
        assigner=dict(type='MaskAssigner', **costs, num_points=points['num_points']),
        loss_mask=dict(type='PseudoMaskLoss', **weights, **points),
    )


def _box_criterion(
    head: Settings, shared: dict[str, Any], costs: dict[str, Any], points: dict[str, Any]
) -> dict[str, Any]:
    """BoxVIS: what concerns masks keeps the paper's weights."""
    head.note(
        'model.track_head: the weights of mask and dice loss, and of their costs, are those of '
        'annotated masks; BoxVIS has the weights of the paper (2.5) for its pseudo masks'
    )
    num_points = points['num_points']
    return dict(
        type='BoxSupervisedCriterion',
        **shared,
        assigner=dict(
            type='BoxSupervisedAssigner', cls_weight=costs['cls_weight'], num_points=num_points
        ),
        loss_proj=dict(type='ProjectionLoss', loss_weight=5.0),
        loss_pair=dict(type='STPALoss', loss_weight=1.0, num_neighbors=7),
        loss_pseudo=dict(
            type='PseudoMaskLoss',
            mask_weight=2.5,
            dice_weight=2.5,
            num_points=num_points,
            oversample_ratio=points['oversample_ratio'],
            importance_sample_ratio=0.5,
        ),
    )


def _read_costs(assigner: Settings) -> dict[str, float]:
    """Weights of matching, from mmdet 3's list of costs or from the three entries of its 2.x."""
    assigner.skip('type')
    weights = dict(cls_weight=2.0, mask_weight=5.0, dice_weight=5.0)
    names = dict(ClassificationCost='cls', CrossEntropyLossCost='mask', DiceCost='dice')
    found = assigner.parts('match_costs')
    for key in ('cls_cost', 'mask_cost', 'dice_cost'):
        found += assigner.parts(key)
    for cost in found:
        kind = cost.kind()
        if kind not in names:
            cost.refuse('a cost that is left out of the matching')
            continue
        if 'weight' in cost:
            weights[f'{names[kind]}_weight'] = cost.take('weight')
        cost.expect(use_sigmoid=True, pred_act=True, eps=1.0)
    return weights


# ------------------------------------------------------------------ data


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
    reach = part.take('frame_range', 10)
    if not isinstance(reach, int):
        reach = max(abs(int(end)) for end in reach)
    return dict(num_frames=int(part.take('num_ref_imgs', 1)) + 1, frame_range=reach)


def _read_scale(part: Settings) -> tuple[list[int], int]:
    """Short edges to choose from, and the longest long edge."""
    part.skip('resize_type', 'backend')
    part.expect(keep_ratio=True)
    scales = part.take('scales') or [part.take('scale')]
    if not all(isinstance(scale, (list, tuple)) and len(scale) == 2 for scale in scales):
        raise ConversionError(f'{part.path}: expected scale=(long, short), got {literal(scales)}')
    return sorted({min(scale) for scale in scales}), max(max(scale) for scale in scales)


def _convert_transform(transform: Settings) -> dict[str, Any] | None:
    """One augmentation, or ``None`` where the pipeline has it anyway or nothing like it."""
    kind = transform.kind()
    if kind in ('Resize', 'RandomChoiceResize'):
        edges, max_long = _read_scale(transform)
        return dict(type='ClipResizeShortEdge', short_edges=edges, max_long=max_long, backend='cv2')
    if kind == 'RandomFlip':
        transform.expect(direction='horizontal')
        return dict(type='ClipRandomFlip', prob=transform.take('prob', 0.5))
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


# ------------------------------------------------------------------ schedule and runtime


def carry(part: Settings, registry: Registry) -> dict[str, Any] | None:
    """A section as it stands, without package names; ``None`` where its type is unknown here."""
    content = unscope(part.everything())
    if 'type' in content and registry.get(content['type']) is None:
        part.refuse('has no counterpart and is left out')
        return None
    return content


def convert_schedule(root: Settings) -> dict[str, Any]:
    """Loops, optimiser and learning rate."""
    converted: dict[str, Any] = {}
    for key in ('train_cfg', 'val_cfg', 'test_cfg'):
        if key in root and (loop := carry(root.part(key), LOOPS)) is not None:
            converted[key] = loop
    if 'optim_wrapper' in root:
        part = root.part('optim_wrapper')
        part.expect(constructor='DefaultOptimWrapperConstructor')
        wrapper = carry(part, OPTIM_WRAPPERS) or {}
        optimizer = wrapper.get('optimizer', {}).get('type')
        if OPTIMIZERS.get(str(optimizer)) is None:
            raise ConversionError(f'optim_wrapper.optimizer.type {optimizer!r} is unknown')
        converted['optim_wrapper'] = {**wrapper, 'constructor': 'StudentOptimWrapperConstructor'}
    schedulers = [carry(part, PARAM_SCHEDULERS) for part in root.parts('param_scheduler')]
    if schedulers:
        converted['param_scheduler'] = [part for part in schedulers if part is not None]
    return converted


def convert_hooks(root: Settings, boxes_only: bool) -> dict[str, Any]:
    """Default and custom hooks; the drawing of tracks becomes ours."""
    default: dict[str, Any] = {}
    custom: list[dict[str, Any]] = []
    hooks = root.part('default_hooks')
    for key in hooks:
        part = hooks.part(key)
        if unscoped(str(part.peek('type'))) != 'TrackVisualizationHook':
            if (hook := carry(part, HOOKS)) is not None:
                default[key] = hook
            continue
        part.skip('type', 'interval', 'wait_time')
        part.expect(show=False)
        overlay = {
            ours: part.take(theirs)
            for ours, theirs in (('score_thr', 'score_thr'), ('out_dir', 'test_out_dir'))
            if theirs in part
        }
        if part.take('draw', False):
            custom.append(dict(type='VideoOverlayHook', **overlay))
    found = [carry(part, HOOKS) for part in root.parts('custom_hooks')]
    custom += [hook for hook in found if hook is not None]
    if boxes_only:
        custom.append(dict(type='EMATeacherHook', momentum=0.001))
    return dict(default_hooks=default, custom_hooks=custom)


def convert_runtime(root: Settings) -> dict[str, Any]:
    """Logging, environment, seeds and where to start from."""
    converted: dict[str, Any] = {}
    if 'log_processor' in root:
        converted['log_processor'] = carry(root.part('log_processor'), LOG_PROCESSORS)
    backends = [carry(part, VISBACKENDS) for part in root.parts('vis_backends')]
    root.skip('visualizer', 'default_scope')
    if backends:
        converted['visualizer'] = dict(
            type='Visualizer', vis_backends=[part for part in backends if part is not None]
        )
    for key in ('env_cfg', 'log_level', 'randomness', 'auto_scale_lr', 'resume', 'work_dir'):
        if key in root:
            converted[key] = root.take(key)
    start = root.part('model').part('init_cfg')
    start.skip('type')
    checkpoint = start.take('checkpoint')
    load_from = root.take('load_from', checkpoint)
    if load_from is not None:
        converted['load_from'] = load_from
        if '/mmdetection/v2.0/' in load_from:
            root.note(
                'load_from: weights of mmdet 2.x name the decoder layers otherwise; take the file '
                'of the same model that mmdet 3.x lists'
            )
    return converted


# ------------------------------------------------------------------ the whole


def convert(content: Mapping[str, Any], *, boxes_only: bool = False) -> tuple[dict, list[str]]:
    """Converts a config.

    Args:
        content: as :func:`read_config` returns it.
        boxes_only: BoxVIS in place of Mask2FormerVIS.

    Returns:
        The converted config, and one line for each thing that a reader has to know of it:
        settings that have another effect here, then settings that were left out.

    Raises:
        ConversionError: if the model, a data set or the optimiser is none that can be converted.
    """
    notes: list[str] = []
    root = Settings(content, '', notes)
    if 'model' not in root:
        raise ConversionError('the config defines no model')
    sets: dict[str, dict[str, Any]] = {}
    data: dict[str, Any] = {}
    for split in ('train', 'val', 'test'):
        if f'{split}_dataloader' in root:
            loader = root.part(f'{split}_dataloader')
            part = loader.part('dataset')
            training = split == 'train'
            sets[split] = (
                convert_training_set(part, boxes_only) if training else convert_test_set(part)
            )
            data[f'{split}_dataloader'] = convert_loader(loader, sets[split], training)
        if f'{split}_evaluator' in root and split in sets:
            evaluator = root.part(f'{split}_evaluator')
            data[f'{split}_evaluator'] = convert_evaluator(evaluator, sets[split])
    length = sets.get('train', {}).get('clip', {}).get('num_frames')
    converted = dict(
        default_scope='mmboxvis',
        model=convert_model(root.part('model'), boxes_only, length),
        **data,
        **convert_schedule(root),
        **convert_hooks(root, boxes_only),
        **convert_runtime(root),
    )
    return converted, [*notes, *_left_out(root)]


def _left_out(root: Settings) -> Iterator[str]:
    """Unread settings; names at the top that no runner knows only helped to write the others."""
    known = {*inspect.signature(Runner.__init__).parameters, 'custom_imports', 'compile'}
    for line in root.left():
        name = line.partition(' = ')[0]
        if '.' in name or name in known:
            yield f'left out: {line}'


def literal(value: Any, indent: int = 0) -> str:
    """Python source of a value, on one line where it fits into 100 columns."""
    if isinstance(value, Mapping):
        words = all(isinstance(key, str) and key.isidentifier() for key in value)
        words = words and not any(keyword.iskeyword(key) for key in value)
        start, end = ('dict(', ')') if words else ('{', '}')
        names = [f'{key}=' if words else f'{key!r}: ' for key in value]
        entries = list(value.values())
    elif isinstance(value, (list, tuple)):
        start, end = ('[', ']') if isinstance(value, list) else ('(', ')')
        names, entries = [''] * len(value), list(value)
    else:
        return repr(value)
    parts = [name + literal(entry, indent + 4) for name, entry in zip(names, entries)]
    trailing = ',' if isinstance(value, tuple) and len(parts) == 1 else ''
    line = f'{start}{", ".join(parts)}{trailing}{end}'
    if '\n' not in line and indent + len(line) < 80:
        return line
    inner = ''.join(f'{" " * (indent + 4)}{part},\n' for part in parts)
    return f'{start}\n{inner}{" " * indent}{end}'


def to_source(converted: Mapping[str, Any], notes: Sequence[str], origin: str) -> str:
    """The text of the converted config."""
    lines = [f'"""Made of {origin} by tools/model_converters/from_mmtrack_config.py."""', '']
    if notes:
        lines.append('# What to know of the conversion:')
        for note in notes:
            text = textwrap.fill(' '.join(note.split()), 96, break_long_words=False)
            lines += [f'# {"  " if i else "- "}{line}' for i, line in enumerate(text.split('\n'))]
        lines.append('')
    lines += [f'{key} = {literal(value)}' for key, value in converted.items()]
    return '\n'.join(lines) + '\n'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='config of mmtrack 1.x or mmdet 3.x')
    parser.add_argument('dst', help='config to write')
    parser.add_argument('--boxes-only', action='store_true', help='BoxVIS: learn from boxes alone')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Converts one file and says what to know of it."""
    args = parse_args(argv)
    try:
        if Path(args.src).resolve() == Path(args.dst).resolve():
            raise ConversionError('src and dst are the same file')
        converted, notes = convert(read_config(args.src), boxes_only=args.boxes_only)
    except ConversionError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    with whole_file(args.dst) as temporary:
        temporary.write_text(to_source(converted, notes, Path(args.src).name), encoding='utf-8')
    print(f'{converted["model"]["type"]}: {args.dst}')
    for note in notes:
        print(f'- {note}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
