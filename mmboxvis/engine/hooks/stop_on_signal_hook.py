"""Stopping in good order when the machine is wanted for something else."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from mmboxvis.registry import HOOKS

from .whole_checkpoint_hook import WholeCheckpointHook

RESUME_LATER = 75
"""Exit status of a run that was told to stop and left a checkpoint (``EX_TEMPFAIL``)."""

INTERRUPTED = 'interrupted'
"""Name of the file that such a run leaves in its work folder."""


def _can_save_alone(runner: Runner) -> bool:
    """Whether one process can save in a validation what the run would have saved before it."""
    whole = isinstance(runner, Runner) or get_world_size() == 1
    return whole and not any(isinstance(hook, EMAHook) for hook in runner.hooks)


@HOOKS.register_module()
class StopOnSignalHook(Hook):
    """Saves a checkpoint and exits with status 75 when a signal comes in training.

    The step under way is finished first. If any process got the signal all stop after the same
    step, and none before the checkpoint is written: Slurm kills the others when one ends. As the
    exit status is then that of the killed, the file ``interrupted`` in the work folder tells too.
    Signals that follow the first change nothing; Slurm sends several.

    A validation is broken off after the video under way; :class:`WholeCheckpointHook` repeats it
    when the run is resumed. Processes have different videos and do not wait for each other there:
    the first one stops alone, which ends the others. Where that cannot be, because each holds a
    part of the weights, or because mmengine's ``EMAHook`` has put others in their place, the
    validation comes to its end, and the run stops after the next step.

    Args:
        signals: names of the signals; Slurm sends ``SIGTERM`` before it takes the machine away,
            and ``--signal=USR1@120`` sends ``SIGUSR1`` two minutes before the time is up.
    """

    priority = 'LOWEST'

    def __init__(self, signals: Sequence[str] = ('SIGTERM', 'SIGUSR1')) -> None:
        self.signals = [signal.Signals[name] for name in signals]
        self.received = 0
        self._before: dict[signal.Signals, object] = {}

    def before_train(self, runner: Runner) -> None:
        """Listens, if this is the main thread: Python allows it nowhere else."""
        if is_main_process():
            (Path(runner.work_dir) / INTERRUPTED).unlink(missing_ok=True)
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._note) for name in self.signals}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | Sequence | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Stops the run if any process was told to.

        Raises:
            SystemExit: with status 75, after the checkpoint is written.
        """
        told = self.received
        if get_world_size() > 1:
            of_all = torch.tensor(told, device=get_device())
            all_reduce(of_all, 'max')
            told = int(of_all)
        if not told:
            return
        self._save(runner, told, f'after step {runner.iter + 1}')
        barrier()
        raise SystemExit(RESUME_LATER)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | Sequence | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Stops the run in its validation if the first process was told to.

        Raises:
            SystemExit: with status 75, after the checkpoint is written.
        """
        if self.received and is_main_process() and _can_save_alone(runner):
            where = f'in the validation after step {runner.iter}'
            self._save(runner, self.received, where, between_steps=True)
            raise SystemExit(RESUME_LATER)

    @staticmethod
    def _save(runner: Runner, told: int, where: str, *, between_steps: bool = False) -> None:
        """Leaves the checkpoint and the file that tells."""
        if is_main_process():
            (Path(runner.work_dir) / INTERRUPTED).touch()
        keeper = WholeCheckpointHook.of(runner)
        saved = 'no checkpoint: there is no WholeCheckpointHook'
        if keeper is not None:
            saved = keeper.save_now(runner, between_steps=between_steps)
        name = signal.Signals(told).name
        runner.logger.warning(f'{name}: stopped {where}, saved {saved}; --resume goes on')

    def after_train(self, runner: Runner) -> None:
        """Listens no more."""
        for name, handler in self._before.items():
            signal.signal(name, handler)  # type: ignore[arg-type]
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        # workers of the data loader get the signal too; torch would break off the step for them
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
