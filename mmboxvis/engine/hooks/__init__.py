"""Hooks of mmboxvis."""

from .ema_teacher_hook import EMATeacherHook
from .non_finite_hook import NonFiniteError, NonFiniteHook
from .num_classes_hook import NumClassesError, NumClassesHook
from .step_seed_hook import StepSeedHook
from .stop_on_signal_hook import RESUME_LATER, StopOnSignalHook
from .whole_checkpoint_hook import WholeCheckpointHook

__all__ = [
    'RESUME_LATER',
    'EMATeacherHook',
    'NonFiniteError',
    'NonFiniteHook',
    'NumClassesError',
    'NumClassesHook',
    'StepSeedHook',
    'StopOnSignalHook',
    'WholeCheckpointHook',
]
