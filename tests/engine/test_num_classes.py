"""Data and model of different numbers of classes: told before any work."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.registry import DefaultScope
from torch import nn

from mmboxvis.datasets import BoxVideo
from mmboxvis.engine import NumClassesError, NumClassesHook, SeededDraws
from mmboxvis.registry import DATASETS
from tests.engine.small_runs import load_main, make_config
from tests.models.tiny import NUM_CLASSES, make_boxvis

SET = 'model.network.track_head.num_classes'


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    cfg = make_config(tmp_path_factory.mktemp('toy'))
    assert cfg.model.network.track_head.num_classes == NUM_CLASSES
    return cfg


@pytest.fixture(scope='module')
def toy(config: Config) -> BoxVideo:
    """A set of as many classes as the tiny models have."""
    with DefaultScope.overwrite_default_scope('mmboxvis'):
        dataset = DATASETS.build(config.train_dataloader.dataset)
    assert len(dataset.metainfo['classes']) == NUM_CLASSES
    return dataset


@pytest.fixture
def few_heads(config: Config, tmp_path: Path) -> Path:
    """The config of a model of one class less, as a file."""
    cfg = config.copy()
    cfg.model.network.track_head.num_classes = NUM_CLASSES - 1
    cfg.dump(tmp_path / 'few.py')
    return tmp_path / 'few.py'


class Judge:
    """A metric that notes what it is asked."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.asked: list[tuple[int, int]] = []

    def fits_labels(self, num_labels: int, classes: Any) -> bool:
        """Its only answer."""
        self.asked.append((num_labels, len(classes)))
        return self.answer


def named(num_classes: int) -> Any:
    """A data set of so many classes."""
    return SimpleNamespace(metainfo=dict(classes=tuple('abcdefghijklmnop'[:num_classes])))


def make_runner(
    train: Any = None, scored: Any = None, metrics: Any = (), model: nn.Module | None = None
) -> Any:
    lines: list[str] = []
    loop = SimpleNamespace(
        dataloader=SimpleNamespace(dataset=scored), evaluator=SimpleNamespace(metrics=metrics)
    )
    return SimpleNamespace(
        model=model or make_boxvis(),
        train_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=train)),
        val_loop=None if scored is None else loop,
        test_loop=loop,
        logger=SimpleNamespace(warning=lines.append),
        lines=lines,
    )


def test_as_many_classes_pass_in_silence(toy: BoxVideo) -> None:
    for dataset in (toy, SeededDraws(toy, 0), SeededDraws(ConcatDataset([toy, toy]), 0)):
        runner = make_runner(dataset)
        NumClassesHook().before_train(runner)
        assert runner.lines == []


def test_more_classes_in_any_part_are_an_error(toy: BoxVideo) -> None:
    parts = SimpleNamespace(datasets=[toy, named(5)])
    for dataset in (named(5), parts):
        with pytest.raises(NumClassesError, match=rf'training .*5 classes.* model 4: set {SET}=5'):
            NumClassesHook().before_train(make_runner(dataset))
    with pytest.raises(NumClassesError, match=r'12 classes \(a, b, c, d, e, f, g, h, i, j, \.\.\.'):
        NumClassesHook().before_train(make_runner(named(12)))


def test_fewer_classes_in_training_are_a_line_in_the_log() -> None:
    runner = make_runner(named(2))
    NumClassesHook().before_train(runner)
    assert (
        len(runner.lines) == 1 and f'2 classes (a, b), the model 4: set {SET}=2' in runner.lines[0]
    )


def test_metrics_decide_for_validation_and_test() -> None:
    hook = NumClassesHook()
    calls = (hook.before_train, hook.before_val, hook.before_test)
    for call in calls:
        judge = Judge(True)
        # another metric than ours has its own rules
        call(make_runner(named(4), named(3), [judge, object()]))
        assert judge.asked == [(4, 3)]
        with pytest.raises(NumClassesError, match=r'(validation|test) data has 3 .*class_agnostic'):
            call(make_runner(named(4), named(3), [Judge(False)]))


def test_each_part_goes_to_its_own_metric() -> None:
    judges = [Judge(True), Judge(True)]
    runner = make_runner(None, SimpleNamespace(datasets=[named(2), named(3)]), judges)
    runner.test_loop.evaluator.dataset_prefixes = ['a', 'b']
    NumClassesHook().before_test(runner)
    assert [judge.asked for judge in judges] == [[(4, 2)], [(4, 3)]]


def test_other_models_and_data_without_names_pass() -> None:
    hook = NumClassesHook()
    hook.before_train(make_runner(named(9), named(9), [Judge(False)], model=nn.Linear(1, 1)))
    hook.before_train(make_runner(SimpleNamespace(), SimpleNamespace(metainfo={}), [Judge(False)]))


def test_train_says_it_in_one_line(few_heads: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        load_main('tools/train.py')([str(few_heads), '--work-dir', str(tmp_path / 'run')])
    assert str(stop.value).startswith('train.py: error: the training data has 4 classes (')
    assert f'the model 3: set {SET}=4' in str(stop.value)
    assert not list((tmp_path / 'run').glob('*.pth'))


@pytest.mark.parametrize('agnostic', [False, True])
def test_test_says_it_unless_classes_do_not_count(
    few_heads: Path, tmp_path: Path, agnostic: bool
) -> None:
    cfg = Config.fromfile(few_heads)
    cfg.test_evaluator.class_agnostic = agnostic
    cfg.dump(few_heads)
    model = make_boxvis(cfg.model.network.to_dict())
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'few.pth')
    arguments = [str(few_heads), str(tmp_path / 'few.pth'), '--work-dir', str(tmp_path / 'run')]
    if agnostic:
        load_main('tools/test.py')(arguments)
        assert (tmp_path / 'run' / 'metrics.json').exists()
        return
    with pytest.raises(SystemExit, match=rf'^test.py: error: the test data .* model 3: set {SET}'):
        load_main('tools/test.py')(arguments)
