"""Configs of mmtrack's layout become ours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from mmboxvis.registry import DATA_SAMPLERS, DATASETS, HOOKS, MODELS, TRANSFORMS

TOOL = Path(__file__).resolve().parents[1] / 'tools/model_converters/from_mmtrack_config.py'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('from_mmtrack_config', TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # its parts are imported from the folder of the program
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOL.parent))
        spec.loader.exec_module(module)
    return module


DATA = """
dataset_type = 'YouTubeVISDataset'
data_root = 'data/youtube_vis_2019/'
dataset_version = data_root[-5:-1]
train_pipeline = [
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadTrackAnnotations', with_instance_id=True, with_mask=True),
            dict(type='mmdet.Resize', scale=(640, 360), keep_ratio=True),
            dict(type='mmdet.RandomFlip', prob=0.25),
        ]),
    dict(type='PackTrackInputs', ref_prefix='ref'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(640, 360), keep_ratio=True),
    dict(type='PackTrackInputs', pack_single_img=True),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmdet.DefaultSampler', shuffle=True),
    batch_sampler=dict(type='mmdet.AspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset_version=dataset_version,
        ann_file='annotations/youtube_vis_2019_train.json',
        data_prefix=dict(img_path='train/JPEGImages'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        ref_img_sampler=dict(
            num_ref_imgs=1, frame_range=[-20, 20], filter_key_img=True, method='uniform'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='mmdet.DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset_version=dataset_version,
        ann_file='annotations/youtube_vis_2019_valid.json',
        data_prefix=dict(img_path='valid/JPEGImages'),
        load_as_video=True,
        ref_img_sampler=None,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
"""

RUNTIME = """
default_scope = 'mmtrack'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2000),
    visualization=dict(type='TrackVisualizationHook', draw=False))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='TrackLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_level = 'INFO'
load_from = None
resume = False
"""

# the layers in the words of mmdet 2.x, which mmtrack's configs kept
MODEL = """
_base_ = ['../_base_/youtube_vis.py', '../_base_/default_runtime.py']
num_classes = 5
num_frames = 2
model = dict(
    type='Mask2Former',
    data_preprocessor=dict(
        type='TrackDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32),
    backbone=dict(
        type='mmdet.ResNet',
        depth=18,
        base_channels=8,
        stem_channels=8,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch'),
    track_head=dict(
        type='Mask2FormerHead',
        in_channels=[8, 16, 32, 64],
        strides=[4, 8, 16, 32],
        feat_channels=32,
        out_channels=32,
        num_classes=num_classes,
        num_queries=7,
        num_frames=num_frames,
        num_transformer_feat_level=3,
        pixel_decoder=dict(
            type='mmdet.MSDeformAttnPixelDecoder',
            num_outs=3,
            norm_cfg=dict(type='GN', num_groups=32),
            act_cfg=dict(type='ReLU'),
            encoder=dict(
                type='mmdet.DetrTransformerEncoder',
                num_layers=2,
                transformerlayers=dict(
                    type='mmdet.BaseTransformerLayer',
                    attn_cfgs=dict(
                        type='mmdet.MultiScaleDeformableAttention',
                        embed_dims=32,
                        num_heads=4,
                        num_levels=3,
                        num_points=2,
                        im2col_step=64,
                        dropout=0.0,
                        batch_first=False),
                    ffn_cfgs=dict(
                        type='FFN',
                        embed_dims=32,
                        feedforward_channels=48,
                        num_fcs=2,
                        ffn_drop=0.0,
                        act_cfg=dict(type='ReLU', inplace=True)),
                    operation_order=('self_attn', 'norm', 'ffn', 'norm')),
                init_cfg=None),
            positional_encoding=dict(
                type='mmdet.SinePositionalEncoding', num_feats=16, normalize=True),
            init_cfg=None),
        enforce_decoder_input_project=False,
        positional_encoding=dict(
            type='SinePositionalEncoding3D', num_feats=16, normalize=True),
        transformer_decoder=dict(
            type='mmdet.DetrTransformerDecoder',
            return_intermediate=True,
            num_layers=3,
            transformerlayers=dict(
                type='mmdet.DetrTransformerDecoderLayer',
                attn_cfgs=dict(
                    type='mmdet.MultiheadAttention',
                    embed_dims=32,
                    num_heads=4,
                    attn_drop=0.0,
                    proj_drop=0.0,
                    batch_first=False),
                ffn_cfgs=dict(
                    embed_dims=32,
                    feedforward_channels=64,
                    num_fcs=2,
                    act_cfg=dict(type='ReLU', inplace=True),
                    ffn_drop=0.0,
                    add_identity=True),
                feedforward_channels=64,
                operation_order=('cross_attn', 'norm', 'self_attn', 'norm', 'ffn', 'norm'))),
        loss_cls=dict(
            type='mmdet.CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=1.5,
            reduction='mean',
            class_weight=[1.0] * num_classes + [0.2]),
        loss_mask=dict(
            type='mmdet.CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=4.0),
        loss_dice=dict(
            type='mmdet.DiceLoss',
            use_sigmoid=True,
            activate=True,
            reduction='mean',
            naive_dice=True,
            eps=1.0,
            loss_weight=3.0),
        train_cfg=dict(
            num_points=500,
            oversample_ratio=2.0,
            importance_sample_ratio=0.75,
            assigner=dict(
                type='mmdet.HungarianAssigner',
                match_costs=[
                    dict(type='mmdet.ClassificationCost', weight=2.5),
                    dict(type='mmdet.CrossEntropyLossCost', weight=4.5, use_sigmoid=True),
                    dict(type='mmdet.DiceCost', weight=3.5, pred_act=True, eps=1.0),
                ]),
            sampler=dict(type='mmdet.MaskPseudoSampler'))),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/mask2former/x.pth'))
embed_multi = dict(lr_mult=1.0, decay_mult=0.0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)),
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.1, decay_mult=1.0),
            **{name: embed_multi for name in ('query_embed', 'query_feat', 'level_embed')},
        },
        norm_decay_mult=0.0),
    clip_grad=dict(max_norm=0.01, norm_type=2))
max_iters = 6000
param_scheduler = dict(
    type='mmdet.MultiStepLR',
    begin=0, end=max_iters, by_epoch=False, milestones=[4000], gamma=0.1)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=6001)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(
    type='YouTubeVISMetric',
    metric='youtube_vis_ap',
    outfile_prefix='./youtube_vis_results',
    format_only=True)
test_evaluator = val_evaluator
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {
        '_base_/youtube_vis.py': DATA,
        '_base_/default_runtime.py': RUNTIME,
        'vis/mask2former.py': MODEL,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return path


def convert(tool: ModuleType, source: Path, *options: str) -> Config:
    target = source.with_name('converted.py')
    assert tool.main([str(source), str(target), *options]) == 0
    return Config.fromfile(target)


def build(cfg: Config) -> Any:
    with DefaultScope.overwrite_default_scope('mmboxvis'):
        return MODELS.build(cfg.model)


def test_model_builds_with_the_sizes_of_the_source(tool: ModuleType, source: Path) -> None:
    cfg = convert(tool, source)
    model = build(cfg)
    assert type(model).__name__ == 'Mask2FormerVIS'
    head = model.student.track_head
    assert (head.num_classes, head.num_queries) == (5, 7)
    assert len(head.pixel_decoder.encoder.layers) == 2
    assert len(head.transformer_decoder.layers) == 3
    attention = head.pixel_decoder.encoder.layers[0].self_attn
    assert (attention.num_heads, attention.num_points, attention.num_levels) == (4, 2, 3)
    assert head.decoder_positional_encoding.paired_frequencies
    hidden = [
        layers[0].ffn.feedforward_channels
        for layers in (head.pixel_decoder.encoder.layers, head.transformer_decoder.layers)
    ]
    assert hidden == [48, 64]
    assert cfg.model.test_cfg.clip_length == 2
    with torch.no_grad():
        layers = model(torch.zeros(1, 2, 3, 32, 64))
    assert layers[-1].mask_logits.shape == (1, 7, 2, 8, 16)


def test_losses_and_matching_keep_their_weights(tool: ModuleType, source: Path) -> None:
    criterion = convert(tool, source).model.criterion
    assert (criterion.cls_weight, criterion.no_object_weight) == (1.5, 0.2)
    loss = criterion.loss_mask
    assert (loss.mask_weight, loss.dice_weight) == (4.0, 3.0)
    assert (loss.num_points, loss.oversample_ratio, loss.importance_sample_ratio) == (500, 2, 0.75)
    costs = criterion.assigner
    assert (costs.cls_weight, costs.mask_weight, costs.dice_weight) == (2.5, 4.5, 3.5)
    assert costs.num_points == 500


def test_data_sets_and_pipelines(tool: ModuleType, source: Path) -> None:
    cfg = convert(tool, source)
    train = cfg.train_dataloader.dataset
    assert (train.type, train.version) == ('YouTubeVIS', '2019')
    assert train.ann_file == 'annotations/youtube_vis_2019_train.json'
    assert train.img_root == 'train/JPEGImages' and train.load_masks
    assert train.clip == dict(num_frames=2, frame_range=20)
    assert [transform.type for transform in train.pipeline] == [
        'LoadClipFrames',
        'LoadClipAnnotations',
        'ClipResizeShortEdge',
        'ClipRandomFlip',
        'PackClipInputs',
    ]
    assert train.pipeline[2].short_edges == [360] and train.pipeline[2].max_long == 640
    assert train.pipeline[3].prob == 0.25
    with DefaultScope.overwrite_default_scope('mmboxvis'):
        DATASETS.build({**train, 'lazy_init': True})
        for transform in train.pipeline:
            TRANSFORMS.build(transform)
    assert DATA_SAMPLERS.get(cfg.train_dataloader.batch_sampler.type) is not None
    valid = cfg.val_dataloader
    assert valid.sampler.round_up is False and valid.dataset.test_mode
    assert valid.dataset.pipeline == [dict(type='Resize', scale=(640, 360), keep_ratio=True)]
    assert cfg.test_evaluator == dict(
        type='VISMetric',
        ann_file='data/youtube_vis_2019/annotations/youtube_vis_2019_valid.json',
        format_only=True,
        outfile_prefix='./youtube_vis_results',
    )


def test_schedule_builds(tool: ModuleType, source: Path) -> None:
    cfg = convert(tool, source)
    assert cfg.train_cfg == dict(type='IterBasedTrainLoop', max_iters=6000, val_interval=6001)
    assert cfg.param_scheduler[0].type == 'MultiStepLR'
    assert cfg.load_from.endswith('/x.pth') and cfg.default_scope == 'mmboxvis'
    with DefaultScope.overwrite_default_scope('mmboxvis'):
        wrapper: Any = build_optim_wrapper(build(cfg), cfg.optim_wrapper)
    rates = {round(group['lr'], 9) for group in wrapper.optimizer.param_groups}
    assert rates == {2e-4, 2e-5}
    assert 'visualization' not in cfg.default_hooks
    assert all(HOOKS.get(hook.type) is not None for hook in cfg.default_hooks.values())


def test_boxes_only_makes_boxvis(tool: ModuleType, source: Path) -> None:
    cfg = convert(tool, source, '--boxes-only')
    model = build(cfg)
    assert type(model).__name__ == 'BoxVIS' and model.teacher is not None
    assert cfg.custom_hooks == [dict(type='EMATeacherHook', momentum=0.001)]
    assert 'load_masks' not in cfg.train_dataloader.dataset
    assert model.criterion.assigner.num_points == 500


def test_what_is_not_carried_over_is_named(
    tool: ModuleType, source: Path, capsys: pytest.CaptureFixture
) -> None:
    text = source.read_text()
    text = text.replace('num_queries=7,', 'num_queries=7, magic=dict(depth=3),')
    text = text.replace('attn_drop=0.0', 'attn_drop=0.1')
    text += (
        "\ncustom_hooks = [dict(type='SomeHook', every=3)]\ncustom_imports = dict(imports=['a'])"
    )
    source.write_text(text)
    base = source.parents[1] / '_base_/youtube_vis.py'
    crop = "dict(type='mmdet.RandomCrop', crop_size=(300, 300)),\n dict(type='mmdet.RandomFlip'"
    base.write_text(base.read_text().replace("dict(type='mmdet.RandomFlip'", crop))
    cfg = convert(tool, source)
    build(cfg)
    shown = capsys.readouterr().out
    header = source.with_name('converted.py').read_text().partition('default_scope')[0]
    header = ' '.join(header.replace('#', ' ').split())
    for line in (
        'left out: model.track_head.magic = dict(depth=3)',
        'attn_cfgs.attn_drop = 0.1: here it is 0.0',
        "custom_hooks[0] = dict(type='SomeHook', every=3): has no counterpart",
        "left out: custom_imports = dict(imports=['a'])",
        'crop_size=(300, 300)): has no counterpart',
        'left out: train_dataloader.dataset.filter_cfg.min_size = 32',
        'mask loss: mmtrack multiplies the cross-entropy by the 2 frames',
        'weights of mmdet 2.x',
    ):
        assert line in shown and line in header, line
    # helpers of the source say nothing of their own
    assert 'embed_multi' not in shown and 'dataset_type' not in shown


def test_configs_of_mmdet_are_read_without_loss(tool: ModuleType) -> None:
    mmdet = Path(importlib.util.find_spec('mmdet').origin).parent  # type: ignore[union-attr, arg-type]
    folder = mmdet / '.mim/configs/mask2former_vis'
    paths = sorted(folder.glob('mask2former_*.py'))
    if not paths:
        pytest.skip('this mmdet brings no configs')
    for path in paths:
        converted, notes = tool.convert(tool.read_config(path))
        assert not [note for note in notes if note.startswith('left out')], path
        assert converted['train_dataloader']['dataset']['clip']['num_frames'] == 2
        assert converted['load_from'].startswith('https://')
    cfg = Config(converted)  # Swin-L
    assert cfg.model.network.backbone.embed_dims == 192
    assert cfg.model.network.track_head.num_queries == 200


def training_set(tool: ModuleType, frame_range: Any, *pipeline: dict) -> tuple[dict, list[str]]:
    """A converted training set and what is said of it."""
    notes: list[str] = []
    content = dict(
        type='BaseVideoDataset',
        ann_file='a.json',
        ref_img_sampler=dict(num_ref_imgs=2, frame_range=frame_range),
        pipeline=list(pipeline),
    )
    part = sys.modules['mmtrack_config.settings'].Settings(content, 'train', notes)
    return sys.modules['mmtrack_config.data'].convert_training_set(part, True), notes


@pytest.mark.parametrize('ends', [[-2, 0], [0, 2], [-2, 2], 2])
def test_one_sided_clips_are_said(tool: ModuleType, ends: Any) -> None:
    converted, notes = training_set(tool, ends)
    assert converted['clip'] == dict(num_frames=3, frame_range=2)
    said = [note for note in notes if 'frame_range' in note]
    assert len(said) == (ends in ([-2, 0], [0, 2])) and all('as far back as' in x for x in said)


def test_several_long_edges_are_said(tool: ModuleType) -> None:
    scales = [(640, 360), (1333, 480)]
    resize = dict(type='RandomChoiceResize', scales=scales, keep_ratio=True)
    converted, notes = training_set(tool, 2, resize)
    assert converted['pipeline'][2]['max_long'] == 1333
    assert any('the long edges [640, 1333]' in note for note in notes)
    same = dict(resize, scales=[(640, 360), (640, 288)])
    assert not any('long edges' in note for note in training_set(tool, 2, same)[1])


@pytest.mark.parametrize(
    ('flip', 'prob'),
    [
        (dict(prob=0.3), 0.3),
        (dict(prob=[0.3], direction=['horizontal']), 0.3),
        (dict(prob=[0.2, 0.3], direction=['vertical', 'horizontal']), 0.3),
        (dict(prob=0.4, direction=['vertical', 'horizontal']), 0.2),
        (dict(prob=0.4, direction='vertical'), 0),
    ],
)
def test_flips_keep_the_horizontal_share(tool: ModuleType, flip: dict, prob: float) -> None:
    converted, notes = training_set(tool, 2, dict(type='RandomFlip', **flip))
    assert converted['pipeline'][2] == dict(type='ClipRandomFlip', prob=prob)
    assert any('direction' in note for note in notes) == ('vertical' in str(flip))


@pytest.mark.parametrize(
    ('ends', 'flip', 'message'),
    [
        ([1, 2, 3], {}, 'frame_range: expected a number'),
        ('all', {}, 'frame_range: expected a number'),
        (2, dict(prob=[0.3, 0.3]), 'prob: expected one for each direction'),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    tool: ModuleType, ends: Any, flip: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        training_set(tool, ends, dict(type='RandomFlip', **flip))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("import os\nmodel = dict(type='Mask2Former')", 'Import is not read'),
        ("x = open('/etc/passwd')", 'a call of open'),
        ('x = ().__class__', '.__class__ is not read'),
        ("_base_ = './missing.py'", 'there is no config'),
        ("_base_ = './bad.py'", 'is a base of itself'),
        ('model = dict(', 'is no Python config'),
        ('x = 1', 'defines no model'),
        ("model = dict(type='MaskTrackRCNN', track_head=dict())", "'MaskTrackRCNN'"),
        ("model = dict(type='Mask2Former', panoptic_head=dict())", 'no track_head'),
        ("model = dict(type='Mask2Former', track_head=[1])", 'expected dict'),
        (
            "model = dict(type='Mask2Former', backbone=dict(type='ResNet', depth=50), "
            "track_head=dict(type='Mask2FormerHead', num_classes=5, "
            'loss_cls=dict(class_weight=0.1)))',
            'class_weight: expected a list',
        ),
    ],
)
def test_what_cannot_be_converted(
    tool: ModuleType, tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    source, target = tmp_path / 'bad.py', tmp_path / 'out.py'
    source.write_text(text)
    assert tool.main([str(source), str(target)]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert not target.exists()


def test_a_target_that_is_a_folder_is_one_line(
    tool: ModuleType, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert tool.main([str(source), str(tmp_path)]) == 1
    assert f'error: {tmp_path} cannot be written: it is a folder' in capsys.readouterr().err


def test_literals_are_read_back(tool: ModuleType) -> None:
    literal = sys.modules['mmtrack_config.source'].literal
    value = {
        'a': (1,),
        'b.c': [dict(type='X', long='y' * 70), dict()],
        'lambda': None,
        'nested': {1: (2.5, 'x' * 60, "it's")},
    }
    assert eval(literal(value)) == value
    assert all(len(line) <= 100 for line in literal(value).split('\n'))
