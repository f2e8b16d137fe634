"""What happens when numbers go bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Reports the steps that :class:`~mmboxvis.engine.FiniteOptimWrapper` leaves out.

    Each is logged with its losses, videos and frames, and counted: ``skipped_steps`` in the log is
    the share of steps left out. After ``max_in_a_row`` of them without one between the run stops,
    and each process leaves a file with which ``tools/misc/replay_batch.py`` repeats its step.
    The weights are those of the last step that was taken.

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
        runner.message_hub.update_scalar('train/skipped_steps', float(wrapper.skipped))
        if not wrapper.skipped:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        count = runner.message_hub.runtime_info.get('skipped_steps', 0) + 1
        runner.message_hub.update_info('skipped_steps', count)
        assert isinstance(data_batch, Mapping)
        losses = _numbers(outputs or {})
        runner.logger.warning(
            f'step {runner.iter + 1} is left out, {self.in_a_row} in a row, {count} in all: '
            + self._report(data_batch, losses, wrapper.grad_norm)
        )
        if self.in_a_row >= self.max_in_a_row:
            path = self._dump(runner, data_batch, losses)
            raise NonFiniteError(
                f'{self.in_a_row} steps in a row had a loss or gradient that is not finite; the '
                f'last one is in {path}: python tools/misc/replay_batch.py {path}'
            )

    @staticmethod
    def _report(batch: Mapping[str, Any], losses: Mapping[str, float], grad_norm: float) -> str:
        """Of all processes that hold a bad loss, or of all where none does."""
        bad = {name: value for name, value in losses.items() if not abs(value) < float('inf')}
        parts = all_gather_object((bad, describe_batch(batch)))
        guilty = [part for part in parts if part[0]] or parts
        values = sorted({f'{name} {value}' for part in guilty for name, value in part[0].items()})
        videos = '; '.join(line for part in guilty for line in part[1])
        what = ', '.join(values) or f'finite losses, but a gradient of norm {grad_norm}'
        return f'{what}; clips: {videos}'

    @staticmethod
    def _dump(runner: Runner, batch: Mapping[str, Any], losses: Mapping[str, float]) -> Path:
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        rank = get_rank()
        path = Path(runner.work_dir) / f'non_finite_iter_{runner.iter + 1}_rank_{rank}.pth'
        content = dict(
            format=FORMAT,
            iter=runner.iter,
            rank=rank,
            world_size=get_world_size(),
            seed=int(runner.seed or 0),
            progress=float(getattr(model, 'progress', 0.0)),
            config=runner.cfg.pretty_text,
            losses=dict(losses),
            batch=pack_batch(batch),
            state_dict={name: value.cpu() for name, value in model.state_dict().items()},
        )
        with whole_file(path) as temporary:
            torch.save(content, temporary)
        return path


def _numbers(outputs: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in outputs.items()
        if not isinstance(value, Tensor) or value.numel() == 1
    }
