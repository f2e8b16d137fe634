"""Hooks of mmboxvis."""

from .ema_teacher_hook import EMATeacherHook
from .step_seed_hook import StepSeedHook

__all__ = ['EMATeacherHook', 'StepSeedHook']
