"""Moves the teacher after the student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmboxvis.engine.optimizers.finite_step import accumulates
from mmboxvis.registry import HOOKS


class _WithTeacher(Protocol):
    """What the hook asks of a model."""

    teacher_loaded: bool

    def copy_student_to_teacher(self) -> None: ...

    def update_teacher(self, momentum: float) -> None: ...

    def set_progress(self, progress: float) -> None: ...


def _unwrap(model: nn.Module) -> _WithTeacher:
    return cast(_WithTeacher, model.module if is_model_wrapper(model) else model)


@HOOKS.register_module()
class EMATeacherHook(Hook):
    """Updates the teacher of a :class:`BoxVIS` before every training iteration.

    ``teacher = (1 - momentum) * teacher + momentum * student``, constant, as in the released
    program: the update comes first, then both networks run. Where gradients of several iterations
    are accumulated it comes once for them, before the first. The hook also tells the model how far
    the training is, which the confidence schedule needs (``iteration / max_iters``, from 1).

    At the start of a fresh run the student is copied into the teacher, unless the loaded
    checkpoint brought a teacher of its own. A resumed run takes both from its checkpoint.

    Args:
        momentum: in (0, 1); the paper's 0.999 is ``momentum=0.001`` here, mmengine's convention.
    """

    priority = 'NORMAL'

    def __init__(self, momentum: float = 0.001) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f'momentum must lie in (0, 1), got {momentum}')
        self.momentum = momentum

    def before_train(self, runner: Runner) -> None:
        """Copies the student into the teacher where nothing else has set the teacher."""
        model = _unwrap(runner.model)
        if not hasattr(model, 'update_teacher'):
            raise TypeError(
                f'EMATeacherHook needs a model with update_teacher() such as BoxVIS, got '
                f'{type(model).__name__}: remove the hook from custom_hooks or change the model'
            )
        if runner.iter == 0 and not model.teacher_loaded:
            model.copy_student_to_teacher()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | Sequence | None = None
    ) -> None:
        """Moves the teacher and sets the progress."""
        model = _unwrap(runner.model)
        wrapper = getattr(runner, 'optim_wrapper', None)
        # a student that stands still would be averaged in again
        if not isinstance(wrapper, OptimWrapper) or not accumulates(wrapper):
            model.update_teacher(self.momentum)
        model.set_progress((runner.iter + 1) / runner.max_iters)
