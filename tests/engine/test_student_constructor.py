"""The optimiser of the student."""

from __future__ import annotations

import logging

import torch
from mmengine.logging import MMLogger
from torch import nn

from mmboxvis.engine.optimizers.student_constructor import StudentOptimWrapperConstructor

SETTINGS = dict(type='FiniteOptimWrapper', optimizer=dict(type='SGD', lr=0.1, weight_decay=0.0))


class Lines(logging.Handler):
    """Keeps the messages that come through."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one."""
        self.lines.append(record.getMessage())


def test_one_line_tells_of_all_frozen_parameters() -> None:
    student = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    student[0].requires_grad_(False)
    logger, handler = MMLogger.get_current_instance(), Lines()
    logger.addHandler(handler)
    try:
        make = StudentOptimWrapperConstructor(SETTINGS, dict(norm_decay_mult=0.0))
        wrapper = make(nn.ModuleDict(dict(student=student)))
        frozen = [line for line in handler.lines if 'frozen' in line or 'skipped' in line]
        assert frozen == ['2 frozen parameters of the student are not optimised']
        # what others say afterwards is not swallowed
        logger.warning('0.weight is skipped since its requires_grad=False')
        assert 'skipped' in handler.lines[-1]
    finally:
        logger.removeHandler(handler)
    trained = [p for group in wrapper.optimizer.param_groups for p in group['params']]
    assert [p.shape for p in trained] == [torch.Size([1, 3]), torch.Size([1])]
