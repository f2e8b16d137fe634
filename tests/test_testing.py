"""tools/test.py on a small set: what cannot end well ends before anything is predicted."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.evaluation import MultiDatasetsEvaluator
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmboxvis._cli import UsageError
from mmboxvis.evaluation import VISMetric
from mmboxvis.files import AnnotationError, ImageRoot
from mmboxvis.registry import DATASETS, MODELS
from tests.engine.small_runs import Run, load_module, make_config


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('testing')


@pytest.fixture(scope='module')
def cfg(folder: Path) -> Config:
    return make_config(folder)


@pytest.fixture(scope='module')
def truth(cfg: Config) -> dict[str, Any]:
    return json.loads(Path(cfg.test_evaluator.ann_file).read_text())


@pytest.fixture(scope='module')
def checkpoint(cfg: Config, folder: Path) -> str:
    with DefaultScope.overwrite_default_scope('mmboxvis'):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'weights.pth')
    return str(folder / 'weights.pth')


def refused(cfg: Config, folder: Path, checkpoint: str, *arguments: str) -> str:
    """The one line that a test ends with."""
    run = Run(cfg, folder / 'run', tool='tools/test.py')
    assert run.start(checkpoint, *arguments).wait() == [1]
    told = run.log()
    assert 'Traceback' not in told and 'Epoch(test)' not in told
    last = told.strip().splitlines()[-1]
    assert last.startswith('test.py: error: ')
    return last


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda truth: json.dumps(truth)[:-40], 'not valid json'),
        (lambda truth: json.dumps({**truth, 'annotations': None}), 'missing or null'),
        (
            lambda truth: json.dumps(
                {
                    **truth,
                    'videos': truth['videos'][:2],
                    'annotations': [a for a in truth['annotations'] if a['video_id'] < 3],
                }
            ),
            'predictions for videos it does not have: [3]',
        ),
        (
            lambda truth: json.dumps(
                {
                    **truth,
                    'categories': [dict(c, name=f'no {c["name"]}') for c in truth['categories']],
                }
            ),
            'no category is called',
        ),
    ],
)
def test_a_wrong_annotation_file_is_one_line_before_the_test(
    cfg: Config, truth: dict, checkpoint: str, tmp_path: Path, change: Any, message: str
) -> None:
    path = tmp_path / 'wrong.json'
    path.write_text(change(truth))
    told = refused(cfg, tmp_path, checkpoint, '--cfg-options', f'test_evaluator.ann_file={path}')
    assert f'{path}: ' in told and message in told


def test_a_config_that_tests_nothing(cfg: Config, checkpoint: str, tmp_path: Path) -> None:
    cfg = cfg.copy()
    for key in ('test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg[key] = None
    assert 'has no test_dataloader' in refused(cfg, tmp_path, checkpoint)


@pytest.mark.parametrize('option', ['--out', '--metrics-out', '--report'])
def test_a_file_that_cannot_be_written_is_one_line_before_the_test(
    cfg: Config, checkpoint: str, tmp_path: Path, option: str
) -> None:
    name = 'page.html' if option == '--report' else 'a.json'
    path = f'{checkpoint}/{name}'
    assert f'{path} cannot be written' in refused(cfg, tmp_path, checkpoint, option, path)


@pytest.mark.slow
def test_report_of_what_was_scored(cfg: Config, checkpoint: str, tmp_path: Path) -> None:
    """Also of a data set made of parts, such as BVISD."""
    cfg = cfg.copy()
    dataset = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[dataset])
    cfg.test_evaluator.class_agnostic = True
    run = Run(cfg, tmp_path / 'run', tool='tools/test.py')
    run.finish(checkpoint, '--report', str(tmp_path / 'page.html'))
    ap = json.loads((run.folder / 'metrics.json').read_text())['AP']
    page = (tmp_path / 'page.html').read_text()
    assert f'<dt>AP</dt><dd>{100 * ap:.1f}</dd>' in page and '"object"' in page


@pytest.mark.parametrize('further', [[], [dict(id=9, name='dog')]])
def test_parts_that_are_scored_one_by_one(
    cfg: Config, truth: dict, tmp_path: Path, further: list[dict]
) -> None:
    """By an evaluator of mmdet; where the parts differ it takes what it knows of each."""
    first, second = (dict(truth, videos=[video]) for video in truth['videos'][:2])
    second['categories'] = [*truth['categories'], *further]
    paths = []
    for name, content in (('first', first), ('second', second)):
        chosen = content['videos'][0]['id']
        content['annotations'] = [a for a in truth['annotations'] if a['video_id'] == chosen]
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
        paths.append(str(tmp_path / f'{name}.json'))
    classes = tuple(category['name'] for category in truth['categories'])
    with DefaultScope.overwrite_default_scope('mmboxvis'):
        parts = [
            dict(
                type='BoxVideo',
                ann_file=path,
                img_root=str(Path(cfg.test_evaluator.ann_file).parent / 'JPEGImages'),
                classes=classes,
                unknown_categories='drop',
                test_mode=True,
            )
            for path in paths
        ]
        dataset = DATASETS.build(dict(type='ConcatDataset', datasets=parts))
    evaluator = MultiDatasetsEvaluator([VISMetric(path) for path in paths], ['first', 'second'])
    evaluator.dataset_meta = dataset.metainfo
    runner: Any = SimpleNamespace(
        test_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset), evaluator=evaluator)
    )
    args = SimpleNamespace(report=None, metrics_out=None, config='c.py')
    tool = load_module('tools/test.py')
    tool.check_parts(runner, args)
    evaluator.metrics.reverse()
    with pytest.raises(AnnotationError, match='predictions for videos it does not have'):
        tool.check_parts(runner, args)


def test_report_is_given_the_options_of_the_metric(
    cfg: Config, truth: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mmboxvis.visualization

    given: dict[str, Any] = {}
    monkeypatch.setattr(
        mmboxvis.visualization, 'write_report', lambda *args, **options: given.update(options)
    )
    names = [truth['videos'][0]['name']]
    options = dict(iou_type='box', class_agnostic=True, videos=names)
    metric = VISMetric(cfg.test_evaluator.ann_file, **options)
    runner = SimpleNamespace(
        test_evaluator=SimpleNamespace(metrics=[metric]),
        test_dataloader=SimpleNamespace(dataset=SimpleNamespace(data_prefix=dict(img='images'))),
    )
    load_module('tools/test.py').report(runner, 'page.html', 'title')
    assert given == dict(title='title', **options)


def test_images_of_a_data_set_or_of_its_parts() -> None:
    def part(folder: str, **attributes: Any) -> SimpleNamespace:
        return SimpleNamespace(data_prefix=dict(img=folder), **attributes)

    find = load_module('tools/test.py').image_folder
    assert find(part('a')) == find(SimpleNamespace(datasets=[part('a'), part('a')]))
    assert find(part('a')) == ImageRoot('a')
    some = [part('a', linked=('x', 'y')), part('a', linked=('x',))]
    assert find(SimpleNamespace(datasets=some)) == ImageRoot('a', ('x', 'y'))
    for several in ([part('a'), part('b')], [SimpleNamespace()]):
        with pytest.raises(UsageError, match=r'--report draws .* has (a and b|none)'):
            find(SimpleNamespace(datasets=several))
