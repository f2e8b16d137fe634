"""What happens when numbers go bad."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmboxvis.engine.batch_dump import FORMAT, describe_batch, pack_batch
from mmboxvis.engine.optimizers.finite_step import FiniteSteps
from mmboxvis.files import whole_file
from mmboxvis.registry import HOOKS


class NonFiniteError(RuntimeError):
    """Too many steps in a row had a loss or gradient that is not finite."""


@dataclass(frozen=True)
class _Part:
    """What one iteration gave to a step.

    Attributes:
        iteration: counted from 0.
        batch: of this process.
        losses: of it.
    """

    iteration: int
    batch: Mapping[str, Any]
    losses: Mapping[str, float]

    @property
    def bad(self) -> dict[str, float]:
        """The losses that are not finite."""
        return {name: value for name, value in self.losses.items() if not math.isfinite(value)}


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Reports the steps that :class:`~mmboxvis.engine.FiniteOptimWrapper` leaves out.

    Each is logged with its losses, videos and frames, and counted: ``skipped_steps`` in the log is
    the share of steps left out. After ``max_in_a_row`` of them without one between the run stops,
    and each process leaves a file with which ``tools/misc/replay_batch.py`` repeats its step.
    The weights are those of the last step that was taken. A step that adds up several iterations
    (``accumulative_counts``) counts as one, and is laid to those with a bad loss.

    Args:
        max_in_a_row: at least 1.

    Raises:
        NonFiniteError: when the run stops.
    """

    priority = 'HIGH'

    def __init__(self, max_in_a_row: int = 10) -> None:
        if max_in_a_row < 1:
            raise ValueError(f'max_in_a_row must be at least 1, got {max_in_a_row}')
        self.max_in_a_row = max_in_a_row
        self.in_a_row = 0
        self._parts: list[_Part] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | Sequence | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Looks whether the step was left out; see the class."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, FiniteSteps):
            return
        assert isinstance(data_batch, Mapping)
        self._parts.append(_Part(runner.iter, data_batch, _numbers(outputs or {})))
        if not wrapper.updated:
            return
        parts, self._parts = self._parts, []
        runner.message_hub.update_scalar('train/skipped_steps', float(wrapper.skipped))
        if not wrapper.skipped:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        count = runner.message_hub.runtime_info.get('skipped_steps', 0) + 1
        runner.message_hub.update_info('skipped_steps', count)
        runner.logger.warning(
            f'step {runner.iter + 1} is left out, {self.in_a_row} in a row, {count} in all: '
            + self._report(parts, wrapper.grad_norm)
        )
        if self.in_a_row >= self.max_in_a_row:
            path = self._dump(runner, next((part for part in parts if part.bad), parts[-1]))
            raise NonFiniteError(
                f'{self.in_a_row} steps in a row had a loss or gradient that is not finite; the '
                f'last one is in {path}: python tools/misc/replay_batch.py {path}'
            )

    @staticmethod
    def _report(parts: Sequence[_Part], grad_norm: float) -> str:
        """Of all batches with a bad loss, in any process, or of all where none has one."""
        told = [(part.bad, describe_batch(part.batch)) for part in parts]
        everyone = [part for told in all_gather_object(told) for part in told]
        guilty = [part for part in everyone if part[0]] or everyone
        values = sorted({f'{name} {value}' for part in guilty for name, value in part[0].items()})
        videos = '; '.join(line for part in guilty for line in part[1])
        what = ', '.join(values) or f'finite losses, but a gradient of norm {grad_norm}'
        return f'{what}; clips: {videos}'

    @staticmethod
    def _dump(runner: Runner, part: _Part) -> Path:
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        rank = get_rank()
        path = Path(runner.work_dir) / f'non_finite_iter_{part.iteration + 1}_rank_{rank}.pth'
        content = dict(
            format=FORMAT,
            iter=part.iteration,
            rank=rank,
            world_size=get_world_size(),
            seed=int(runner.seed or 0),
            progress=float(getattr(model, 'progress', 0.0)),
            config=runner.cfg.pretty_text,
            losses=dict(part.losses),
            batch=pack_batch(part.batch),
            state_dict={name: value.cpu() for name, value in model.state_dict().items()},
        )
        with whole_file(path) as temporary:
            torch.save(content, temporary)
        return path


def _numbers(outputs: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value.detach() if isinstance(value, Tensor) else value)
        for name, value in outputs.items()
        if not isinstance(value, Tensor) or value.numel() == 1
    }
