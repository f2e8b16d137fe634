"""How optimisers are made and stepped."""

from .autocast_wrapper import AutocastOptimWrapper
from .student_constructor import StudentOptimWrapperConstructor

__all__ = ['AutocastOptimWrapper', 'StudentOptimWrapperConstructor']
