"""Every config reads, builds, and sets what the paper's recipe asks for."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmboxvis.datasets import generate_toyvis
from mmboxvis.models.vis import BaseVIS, VideoPredictor
from mmboxvis.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, TRANSFORMS
from tests.engine.small_runs import load_main

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
ALL = sorted(path for path in CONFIGS.glob('*/*.py') if path.parent.name != '_base_')


def _name(path: Path) -> str:
    return path.stem


def _config(name: str) -> Config:
    return Config.fromfile(next(path for path in ALL if path.stem == name))


def _build(cfg: Config) -> BaseVIS:
    """Builds on the meta device; configs of one model share it."""
    return _build_model(repr({**cfg.model.to_dict(), 'test_cfg': None}))


@functools.cache
def _build_model(settings: str) -> BaseVIS:
    linspace = torch.linspace
    with torch.device('meta'), pytest.MonkeyPatch.context() as patch:
        # mmdet's Swin reads its drop-path rates off a tensor, which must be a real one
        patch.setattr(torch, 'linspace', lambda *args, **kw: linspace(*args, **kw, device='cpu'))
        return MODELS.build(ast.literal_eval(settings))


@pytest.mark.parametrize('path', ALL, ids=_name)
def test_config_builds(path: Path) -> None:
    cfg = Config.fromfile(path)
    assert cfg.default_scope == 'mmboxvis'
    model = _build(cfg)
    classes = cfg.model.network.track_head.num_classes
    assert model.student.track_head.cls_embed.out_features == classes + 1
    has_ema = any(hook['type'] == 'EMATeacherHook' for hook in cfg.custom_hooks)
    assert has_ema == (getattr(model, 'teacher', None) is not None)
    VideoPredictor(model, **cfg.model.test_cfg)
    with DefaultScope.overwrite_default_scope('mmboxvis'):
        for pipeline in _pipelines(cfg.to_dict()):
            for transform in pipeline:
                TRANSFORMS.build(transform)


OWN = dict(
    MMBOXVIS_OWN_DATA='some/where',
    MMBOXVIS_OWN_BOXES='b.json',
    MMBOXVIS_OWN_IMAGES='frames',
    MMBOXVIS_OWN_CLASSES='red car,person,dog',
    MMBOXVIS_OWN_STEPS='7',
)


def test_own_boxes_have_one_place_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OWN, 'MMBOXVIS_OWN_TRUTH'):
        monkeypatch.setenv(name, '')
    plain = _config('boxvis_own_boxes')
    assert plain.model.network.track_head.num_classes == len(plain.classes) == 1
    assert plain.train_dataloader.dataset.category_map == 'object'
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    cfg = _config('boxvis_own_boxes')
    assert cfg.model.network.track_head.num_classes == 3
    assert cfg.train_dataloader.dataset.category_map == {}
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        dataset = loader.dataset
        assert (dataset.data_root, dataset.ann_file) == ('some/where', 'b.json')
        assert dataset.img_root == 'frames'
        assert list(dataset.classes) == ['red car', 'person', 'dog']
    assert cfg.test_evaluator.ann_file == 'some/where/b.json'
    assert cfg.val_dataloader is None
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == 7
    monkeypatch.setenv('MMBOXVIS_OWN_CLASSES', 'cat, red dog,')
    assert list(_config('boxvis_own_boxes').classes) == ['cat', 'red dog']
    monkeypatch.setenv('MMBOXVIS_OWN_TRUTH', 'masks.json')
    cfg = _config('boxvis_own_boxes')
    assert cfg.train_dataloader.dataset.ann_file == 'b.json'
    assert cfg.test_dataloader.dataset.ann_file == 'masks.json'
    assert cfg.test_evaluator.ann_file == 'some/where/masks.json'


@pytest.mark.slow
@pytest.mark.parametrize('one_class', [False, True])
def test_own_boxes_train_and_are_scored(
    one_class: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_toyvis(tmp_path, num_train=2, num_val=1, seed=0, size=[48, 64])
    boxes = tmp_path / 'train' / 'boxes.json'
    names = [category['name'] for category in json.loads(boxes.read_text())['categories']]
    own = dict(OWN, MMBOXVIS_OWN_DATA=str(boxes.parent))
    own.update(MMBOXVIS_OWN_CLASSES='object' if one_class else ','.join(names))
    own.update(MMBOXVIS_OWN_BOXES='boxes.json', MMBOXVIS_OWN_IMAGES='JPEGImages')
    own.update(MMBOXVIS_OWN_STEPS='2')
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    config, run = str(CONFIGS / 'boxvis/boxvis_own_boxes.py'), str(tmp_path / 'run')
    small = ['--cfg-options', 'train_dataloader.num_workers=0']
    small += ['train_dataloader.persistent_workers=False']
    small += ['train_dataloader.dataset.pipeline.2.short_edges=[64]']
    small += ['test_dataloader.dataset.pipeline.0.scale=(96,64)']
    load_main('tools/train.py')([config, '--work-dir', run, *small])
    assert (tmp_path / 'run' / 'iter_2.pth').exists()
    for truth, found in (('boxes.json', 'box'), ('instances.json', 'segm')):
        monkeypatch.setenv('MMBOXVIS_OWN_TRUTH', truth)
        checkpoint, out = f'{run}/iter_2.pth', f'{run}/{found}'
        load_main('tools/test.py')([config, checkpoint, '--work-dir', out, *small])
        assert 'AP' in json.loads((tmp_path / 'run' / found / 'metrics.json').read_text())


def _pipelines(value: Any) -> Iterator[list[dict]]:
    """All pipelines inside a config."""
    if isinstance(value, dict):
        yield from [value['pipeline']] if 'pipeline' in value else []
        value = [entry for key, entry in value.items() if key != 'pipeline']
    if isinstance(value, list):
        for entry in value:
            yield from _pipelines(entry)


@pytest.mark.parametrize(
    'path', [path for path in ALL if path.parent.name in ('boxvis', 'baselines')], ids=_name
)
def test_config_survives_a_dump(path: Path, tmp_path: Path) -> None:
    cfg = Config.fromfile(path)
    cfg.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').model == cfg.model


def test_r50_has_44_million_parameters() -> None:
    model = _build(_config('boxvis_r50_8xb2-15k_bvisd'))
    assert sum(p.numel() for p in model.student.parameters()) == pytest.approx(44.0e6, rel=1e-3)
    assert len(model.student.track_head.transformer_decoder.layers) == 9
    assert len(model.student.track_head.pixel_decoder.encoder.layers) == 6


def _groups(cfg: Config, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each trained parameter of the student."""
    settings = cfg.optim_wrapper.to_dict()
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=settings.pop('constructor'),
            paramwise_cfg=settings.pop('paramwise_cfg'),
            optim_wrapper_cfg=settings,
        )
    )
    wrapper: Any = constructor(model)
    groups = wrapper.optimizer.param_groups
    where = {
        id(parameter): (group['lr'], group['weight_decay'])
        for group in groups
        for parameter in group['params']
    }
    # a GPU steps the parameters of a group together
    assert len(groups) == len(set(where.values()))
    return {
        name: where[id(parameter)]
        for name, parameter in model.student.named_parameters()
        if parameter.requires_grad
    }


def _expected(name: str, norms: set[str]) -> tuple[float, float]:
    """The recipe: a tenth of the rate in the backbone; no decay where the paper's code has none."""
    rate = 1e-5 if name.startswith('backbone.') else 1e-4
    module = name.rpartition('.')[0]
    no_decay = (
        module in norms
        or name.startswith(
            ('track_head.query_feat', 'track_head.query_embed', 'track_head.level_embed')
        )
        or name.endswith('relative_position_bias_table')
    )
    return rate, 0.0 if no_decay else 0.05


@pytest.mark.parametrize(
    ('name', 'num_trained_norms'),
    [
        ('boxvis_r50_8xb2-15k_bvisd', None),
        ('boxvis_swin-l-p4-w12-384_8xb1-32k_bvisd', 24 * 2 + 3 + 1 + 4),
    ],
)
def test_learning_rate_and_decay_of_every_parameter(
    name: str, num_trained_norms: int | None
) -> None:
    cfg = _config(name)
    model = _build(cfg)
    groups = _groups(cfg, model)
    norms = {
        path
        for path, module in model.student.named_modules()
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d))
    }
    wrong = {
        parameter: (found, _expected(parameter, norms))
        for parameter, found in groups.items()
        if found != pytest.approx(_expected(parameter, norms))
    }
    assert not wrong
    trained_norms = {
        path for path in norms if path.startswith('backbone.') and f'{path}.weight' in groups
    }
    assert len(trained_norms) == (num_trained_norms or 0)
    # the pixel decoder's level vector decays, the query decoder's does not
    assert groups['track_head.pixel_decoder.level_encoding.weight'] == (1e-4, 0.05)
    assert groups['track_head.level_embed.weight'] == (1e-4, 0.0)
    assert Counter(groups.values())[(1e-4, 0.05)] > 100


def test_r50_recipe() -> None:
    cfg = _config('boxvis_r50_8xb2-15k_bvisd')
    assert cfg.train_cfg.max_iters == 15000
    assert cfg.param_scheduler[0].milestones == [12000]
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=0.01, norm_type=2)
    assert cfg.train_dataloader.sampler.weights == [2, 1, 1]
    assert cfg.auto_scale_lr.base_batch_size == 16
    criterion = cfg.model.criterion
    assert (criterion.cls_weight, criterion.loss_proj.loss_weight) == (2.0, 5.0)
    assert (criterion.loss_pair.loss_weight, criterion.loss_pair.num_neighbors) == (1.0, 7)
    assert (criterion.loss_pseudo.mask_weight, criterion.loss_pseudo.dice_weight) == (2.5, 2.5)
    assert criterion.loss_pseudo.importance_sample_ratio == 0.5
    assert cfg.custom_hooks == [dict(type='EMATeacherHook', momentum=0.001)]


def test_swin_recipe() -> None:
    cfg = _config('boxvis_swin-l-p4-w12-384_8xb1-32k_bvisd')
    assert cfg.train_cfg.max_iters == 32000
    assert cfg.param_scheduler[0].milestones == [28000]
    assert cfg.model.network.track_head.num_queries == 200
    assert cfg.model.test_cfg.tracker.type == 'OverlapTracker'
    assert cfg.auto_scale_lr.base_batch_size == 8


@pytest.mark.parametrize('path', [p for p in ALL if p.parent.name != 'testing'], ids=_name)
def test_training_starts_from_its_own_batch_and_seed(path: Path) -> None:
    """``--auto-scale-lr`` changes nothing on the machine that the config is for."""
    cfg = Config.fromfile(path)
    batch_size = cfg.train_dataloader.batch_size
    named = re.search(r'_(\d+)xb(\d+)-', path.stem)
    num_gpus, named_size = map(int, named.groups()) if named else (1, batch_size)
    assert named_size == batch_size
    assert cfg.auto_scale_lr.base_batch_size == num_gpus * batch_size
    # a sampler's own seed would win over randomness.seed, and over --cfg-options for it
    assert 'seed' not in cfg.train_dataloader.sampler


@pytest.mark.parametrize('path', [p for p in ALL if p.parent.name != 'testing'], ids=_name)
def test_a_killed_run_loses_half_of_it_at_most(path: Path) -> None:
    cfg = Config.fromfile(path)
    checkpoint = cfg.default_hooks.checkpoint
    assert 2 * checkpoint.interval <= cfg.train_cfg.max_iters
    assert 1 < checkpoint.max_keep_ckpts <= 3


@pytest.mark.parametrize('data', ['ytvis21', 'ovis'])
def test_two_rows_of_the_paper_are_one_run(data: str) -> None:
    """The README of the ablations says so of rows that the paper gives different figures."""
    rows = [_config(f'{row}_r50_8xb2-15k_{data}') for row in ('table3-proj-pair', 'table4-2')]
    pairwise, general = (MODELS.build(cfg.model.criterion.pop('loss_pair')) for cfg in rows)
    assert vars(pairwise._affinity_loss) == vars(general)
    assert rows[0].to_dict() == rows[1].to_dict()
    readme = (CONFIGS / 'ablations/README.md').read_text()
    assert 'one and the same training here' in readme


@pytest.mark.parametrize('run', ['tiny_toyvis', 'tiny_davis-mini', 'effnet-lite0_davis-mini'])
def test_small_twins_differ_in_supervision_only(run: str) -> None:
    box, pixel = (_config(f'{name}_{run}') for name in ('boxvis', 'mask2former-vis'))
    assert box.model.data_preprocessor == pixel.model.data_preprocessor
    assert box.model.network == pixel.model.network
    assert box.train_cfg == pixel.train_cfg
    assert box.optim_wrapper == pixel.optim_wrapper
    assert box.param_scheduler == pixel.param_scheduler
    assert box.test_dataloader == pixel.test_dataloader
    assert box.train_dataloader.dataset.ann_file == 'boxes.json'
    assert 'load_masks' not in box.train_dataloader.dataset
    assert pixel.train_dataloader.dataset.load_masks


def test_pretrained_backbone_is_all_that_differs_from_scratch() -> None:
    scratch, pretrained = (
        _config(f'boxvis_{name}_davis-mini') for name in ('tiny', 'effnet-lite0')
    )
    rates = _groups(pretrained, _build(pretrained))
    assert {rate for name, (rate, _) in rates.items() if name.startswith('backbone.')} == {1e-4}
    assert {rate for name, (rate, _) in rates.items() if name.startswith('track_')} == {1e-3}
    assert pretrained.model.data_preprocessor.mean == [127.0] * 3
    for cfg in (scratch, pretrained):
        cfg.model.data_preprocessor = cfg.model.network.backbone = None
        cfg.model.network.track_head.in_channels = cfg.optim_wrapper.paramwise_cfg = None
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_dataloader', 'custom_hooks'):
        assert scratch[key] == pretrained[key], key


@pytest.mark.parametrize('path', [p for p in ALL if p.parent.name == 'testing'], ids=_name)
def test_testing_configs_do_what_their_names_say(path: Path) -> None:
    network, how, data, *official = path.stem.removeprefix('boxvis_').split('_')
    cfg = Config.fromfile(path)
    backbone = {'r50': 'ResNet', 'swin-l': 'SwinTransformer'}[network]
    assert cfg.model.network.backbone.type == backbone
    tracker, frames = how.split('-t')
    kind = {'query': 'QueryTracker', 'overlap': 'OverlapTracker'}[tracker]
    test_cfg = cfg.model.test_cfg
    assert (test_cfg.tracker.type, test_cfg.clip_length) == (kind, int(frames))
    assert test_cfg.clip_stride == 1
    if kind == 'OverlapTracker':
        unmatched = VideoPredictor(_build(cfg), **test_cfg).tracker.max_unmatched_clips
        assert unmatched == (30 if data.startswith('ytvis') else 10)
    dataset = cfg.test_dataloader.dataset
    if official:
        assert dataset.type == 'BVISD' and cfg.test_evaluator.format_only
        assert cfg.test_evaluator.outfile_prefix
        (dataset,) = (part for name, part in dataset.items() if name != 'type')
    folder, edge = data.split('-')
    assert folder in re.sub(r'_20(\d\d)', r'\1', dataset.ann_file.lower())
    assert tuple(dataset.pipeline[0].scale) == (1333, int(edge.removesuffix('p')))
    assert dataset.test_mode
    assert cfg.test_evaluator.ann_file == f'data/{dataset.ann_file}'


@pytest.mark.parametrize('folder', sorted({path.parent for path in ALL}), ids=_name)
def test_readme_and_metafile_list_every_config(folder: Path) -> None:
    names = {path.stem for path in folder.glob('*.py')}
    readme = (folder / 'README.md').read_text()
    for template in re.findall(r'`([\w-]*)\{(.+?)\}`', readme):
        readme += ''.join(f' {template[0]}{choice}' for choice in template[1].split(','))
    assert [name for name in names if not re.search(rf'\b{name}\b', readme)] == []
    metafile = yaml.safe_load((folder / 'metafile.yml').read_text())
    assert {model['Name'] for model in metafile['Models']} == names
    collections = {collection['Name'] for collection in metafile['Collections']}
    for model in metafile['Models']:
        assert model['Config'] == f'configs/{folder.name}/{model["Name"]}.py'
        assert model['In Collection'] in collections
    assert [collection['README'] for collection in metafile['Collections']] == [
        f'configs/{folder.name}/README.md'
    ]
    index = yaml.safe_load((CONFIGS.parent / 'model-index.yml').read_text())
    assert f'configs/{folder.name}/metafile.yml' in index['Import']


@pytest.mark.parametrize('folder', sorted({path.parent for path in ALL}), ids=_name)
def test_nobody_copied_figures_of_the_paper_as_ours(folder: Path) -> None:
    """A figure of ours needs a measurement: whoever has one changes this test with it."""
    found = 0
    for table in re.findall(r'(?:^\|.*\|\n)+', (folder / 'README.md').read_text(), re.MULTILINE):
        header, _, *lines = table.splitlines()
        if header.endswith('AP (paper) | AP (ours) |'):
            found += len(lines)
            assert all(re.search(r'\| +\|$', line) for line in lines), table
    assert found
