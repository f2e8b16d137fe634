"""How optimisers are made and stepped."""

from .autocast_wrapper import AutocastOptimWrapper
from .finite_step import FiniteAmpOptimWrapper, FiniteOptimWrapper
from .student_constructor import StudentOptimWrapperConstructor

__all__ = [
    'AutocastOptimWrapper',
    'FiniteAmpOptimWrapper',
    'FiniteOptimWrapper',
    'StudentOptimWrapperConstructor',
]
