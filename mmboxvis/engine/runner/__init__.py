"""How a run goes."""

from .resumable_runner import ResumableRunner
from .seeded_draws import NumberedSampler, SeededDraws

__all__ = ['NumberedSampler', 'ResumableRunner', 'SeededDraws']
