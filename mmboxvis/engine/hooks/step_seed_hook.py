"""Random numbers that depend on the step alone."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmboxvis.registry import HOOKS
from mmboxvis.seeding import derive_seed, seed_all

_STREAM = 1
"""Keeps these seeds apart from those of the training samples."""


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seeds the global generators before every training step.

    The seed is a function of the run's seed, the step and the process, so that a resumed run
    draws what the unbroken one would have drawn: points of matching and losses, dropout. There is
    no state of a generator to save. The samples have seeds of their own, see
    :class:`~mmboxvis.engine.ResumableRunner`.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | Sequence | None = None
    ) -> None:
        """Seeds the step."""
        seed_all(step_seed(int(runner.seed or 0), runner.iter, get_rank()))


def step_seed(seed: int, iteration: int, rank: int = 0) -> int:
    """Seed of one training step in one process.

    Args:
        seed: the run's.
        iteration: steps before it.
        rank: of the process.
    """
    return derive_seed(seed, _STREAM, iteration, rank)
