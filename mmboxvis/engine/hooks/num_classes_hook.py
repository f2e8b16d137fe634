"""Whether the labels of the data are those of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmboxvis.models.heads import BoxVISHead
from mmboxvis.registry import HOOKS


class NumClassesError(ValueError):
    """Data and model have different numbers of classes."""


@HOOKS.register_module()
class NumClassesHook(Hook):
    """Compares the number of classes of each data set with the model's before any work.

    A label that the model lacks would be taught as "no object", or break the run in its middle;
    one that the data lack is only found out when the results of all videos are scored. So training
    refuses data of more classes, and tells of fewer in the log. The data of validation and test
    need as many as the model, unless their metric can do without
    (:meth:`~mmboxvis.evaluation.VISMetric.fits_labels`). Those of validation are looked at
    when training starts.

    ``tools/train.py`` and ``tools/test.py`` add it by themselves.

    Raises:
        NumClassesError: at the start of training, validation or test.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Looks at the data of training and validation."""
        num_classes = _num_classes(runner.model)
        if num_classes is None:
            return
        for classes in _class_lists(runner.train_loop.dataloader.dataset):
            if len(classes) > num_classes:
                raise NumClassesError(_message('training', classes, num_classes))
            if len(classes) < num_classes:
                runner.logger.warning(_message('training', classes, num_classes))
        if runner.val_loop is not None:
            _check_scored('validation', runner.val_loop, num_classes)

    def before_val(self, runner: Runner) -> None:
        """Looks at the data of a validation by itself."""
        _check_scored('validation', runner.val_loop, _num_classes(runner.model))

    def before_test(self, runner: Runner) -> None:
        """Looks at the data of the test."""
        _check_scored('test', runner.test_loop, _num_classes(runner.model))


def _num_classes(model: nn.Module) -> int | None:
    """That of the first head of ours, also inside a wrapper; ``None`` of another model."""
    heads = (module for module in model.modules() if isinstance(module, BoxVISHead))
    return next((head.num_classes for head in heads), None)


def _class_lists(dataset: Any) -> Iterator[Sequence[str]]:
    """The classes of each part of a data set, where they are known."""
    for part in getattr(dataset, 'datasets', ()):
        yield from _class_lists(part)
    if hasattr(dataset, 'datasets'):
        return
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if classes is not None:
        yield classes


def _check_scored(kind: str, loop: Any, num_classes: int | None) -> None:
    if num_classes is None:
        return
    dataset, metrics = loop.dataloader.dataset, loop.evaluator.metrics
    # mmdet's evaluator of parts has one metric a part, any other scores all by each of its metrics
    if hasattr(loop.evaluator, 'dataset_prefixes'):
        pairs = list(zip(dataset.datasets, metrics))
    else:
        pairs = [(dataset, metric) for metric in metrics]
    for part, metric in pairs:
        fits = getattr(metric, 'fits_labels', None)
        for classes in _class_lists(part):
            if fits is not None and not fits(num_classes, classes):
                raise NumClassesError(
                    f'{_message(kind, classes, num_classes)} if the model was trained so; a model '
                    'of other classes is scored with class_agnostic=True in the evaluator'
                )


def _message(kind: str, classes: Sequence[str], num_classes: int, limit: int = 10) -> str:
    names = ', '.join(classes[:limit]) + (', ...' if len(classes) > limit else '')
    return (
        f'the {kind} data has {len(classes)} classes ({names}), the model {num_classes}: set '
        f'model.network.track_head.num_classes={len(classes)}'
    )
