"""The model: network, losses, matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmboxvis.models.vis.network_cfg import clip_network_cfg
from mmboxvis.registry import MODELS

from .settings import ConversionError, Settings, unscope
from .source import literal

MODEL_TYPES = ('Mask2Former', 'Mask2FormerVideo')
HEAD_TYPES = ('Mask2FormerHead', 'Mask2FormerTrackHead')


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
    class_weight = loss_cls.take('class_weight', [0.1])
    if not isinstance(class_weight, (list, tuple)) or not class_weight:
        raise ConversionError(
            'model.track_head.loss_cls.class_weight: expected a list, the last for "no object", '
            f'got {literal(class_weight)}'
        )
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
